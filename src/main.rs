use squall::*;
fn main() {
    let mut sources = Vec::new();
    for a in std::env::args().skip(1) {
        let base = a.rsplit('/').next().unwrap().split('.').next().unwrap().to_owned();
        sources.push(ingest::Source { name: a.clone(), origin: base, input: std::fs::File::open(&a).unwrap() });
    }
    let mut d = detect::Detector::new(Default::default());
    let t = std::time::Instant::now();
    let mut n = 0u64;
    let end = ingest::Recording::new(sources).read(|o| {
        n += 1;
        d.observe(o)
    });
    let to = end.span.unwrap().to;
    d.finish(to);
    eprintln!("{n} observations {:?}", t.elapsed());
    for s in d.storms() {
        println!(
            "{:16} {:?} {:18} att={} fail={} det={} {} {:.1} {:?} {:?} pulls={} {}",
            s.subject.name,
            s.state,
            s.cause.as_str(),
            s.attempts,
            s.failed,
            s.detected_after_failures,
            s.onset,
            s.attempts_per_min,
            s.nodes,
            s.causes,
            s.pulls,
            s.detail.chars().take(60).collect::<String>()
        );
    }
    for f in d.findings(to) {
        println!("{f:?}");
    }
    println!("calm {} skipped {:?} {:?}", d.calm(), end.skipped, d.counters());
    for o in end.origins {
        println!("{o:?}");
    }
}
