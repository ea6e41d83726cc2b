//! A soak: hundreds of real events a second for half an hour or more, with storms on.
//!
//! All events are dockerd's own, of real containers and images: what two cores bear of containers that run and end,
//! others that are only made and removed, images that lose a tag, and for the rest renamed containers. They are counted
//! on a stream of their own with the filter that squall asks by.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::api::Api;
use super::trial::{Account, Fault, Trial};

/// SOAK_SECS says otherwise. Half an hour of it is measured.
const SECS: u64 = 2460;
/// The first part is left out of the slope: containers are remembered for ten minutes after they are gone, and every
/// name is new.
const WARM_UP: Duration = Duration::from_secs(660);
const EVENTS_PER_SEC: u64 = 200;
/// How often it is looked at how much squall has.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// How many stopped containers are renamed in turn, by each of how many clients: one waits for dockerd's disk.
const RENAMED: usize = 8;
const CLIENTS: usize = 6;
/// Each of them runs and ends well, or badly, every so often.
const RUN_EVERY: Duration = Duration::from_millis(1500);
/// How often a container is made and removed that never runs.
const MAKE_EVERY: Duration = Duration::from_millis(200);
/// How often an image gets a tag and loses it.
const TAG_EVERY: Duration = Duration::from_millis(500);
/// What memory may have grown by over the measured part, along the line, as a part of what there was.
const GROWTH_MAX: f64 = 0.1;

#[test]
#[ignore = "half an hour long: tests/survive runs it"]
fn half_an_hour_of_two_hundred_events_a_second() {
    let secs = std::env::var("SOAK_SECS").map_or(SECS, |secs| secs.parse().expect("SOAK_SECS is a number"));
    let mut trial = Trial::begin("soak");
    let mut watch = trial.watch();
    trial.storm_of_each_kind();
    trial.storm_every("s-slower", Fault::Exit, None, "5s");
    trial.await_told(&mut watch, 90);
    let load = Load::new(&trial);
    let lasts = Duration::from_secs(secs);
    let warm_up = WARM_UP.min(lasts / 2);
    let (mut samples, began) = (Vec::new(), Instant::now());
    std::thread::scope(|scope| {
        let load = &load;
        let mut clients = vec![scope.spawn(|| load.run()), scope.spawn(|| load.make()), scope.spawn(|| load.tag())];
        clients.extend((0..CLIENTS).map(|client| scope.spawn(move || load.rename(client))));
        let mut turn = 0;
        while began.elapsed() < lasts {
            std::thread::sleep(SAMPLE_EVERY);
            samples.push((began.elapsed(), watch.resident_kb("VmRSS:")));
            turn += 1;
            if turn % 6 == 0 {
                trial.exercise(turn / 6);
                let (at, kb) = samples[samples.len() - 1];
                let events = load.events.load(Ordering::Relaxed);
                println!("{at:.0?}: {kb} kB, {events} events, {:.1} a second", events as f64 / at.as_secs_f64());
            }
        }
        load.is_over.store(true, Ordering::Relaxed);
        // What one of them could not do is not to be hidden.
        for client in clients {
            client.join().unwrap();
        }
    });
    let events = load.events.load(Ordering::Relaxed);
    let rate = events as f64 / began.elapsed().as_secs_f64();
    samples.retain(|(at, _)| *at >= warm_up);
    let line = Line::through(&samples);
    let (least, most) = (samples.iter().map(|s| s.1).min().unwrap(), samples.iter().map(|s| s.1).max().unwrap());
    let more = format!(
        "{events} events in {:.0?}, {rate:.0} a second; {:+.0} KiB/h after the first {warm_up:.0?}, from {least} to {most} KiB; {}",
        began.elapsed(),
        line.per_hour,
        watch.usage()
    );
    trial.expect(rate >= EVENTS_PER_SEC as f64 * 0.95, || format!("only {rate:.0} events a second"));
    let growth = line.per_hour * (samples[samples.len() - 1].0 - samples[0].0).as_secs_f64() / 3600.0;
    trial.expect(growth <= line.mean * GROWTH_MAX, || format!("memory has grown by {growth:.0} KiB: {samples:?}"));
    drop(load);
    let mut account = Account::default();
    trial.settle(watch, "state", &mut account);
    let done = format!("{secs} s of {EVENTS_PER_SEC} real events a second, beside updates and scalings");
    trial.end(&account, &done, &more);
}

/// What makes the events.
struct Load {
    api: Api,
    events: std::sync::Arc<AtomicU64>,
    began: Instant,
    is_over: AtomicBool,
    image: String,
    tag: String,
}

impl Load {
    fn new(trial: &Trial) -> Self {
        let api = Api::of(&trial.lab);
        let image = trial.image("app");
        let (events, tag) = (api.count_events(), image.rsplit_once(':').unwrap().0.to_owned());
        Self { api, events, began: Instant::now(), is_over: AtomicBool::new(false), image, tag }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.api.ask(method, path, body).unwrap();
        assert!(status < 300, "{method} {path}: {answer}");
        answer
    }

    fn container(&self, name: &str, command: &str, is_removed: bool) -> String {
        let body = json!({"Image": self.image, "Cmd": ["sh", "-c", command], "HostConfig": {"AutoRemove": is_removed,
            "NetworkMode": "none"}});
        let answer = self.ask("POST", &format!("/containers/create?name={name}"), &body.to_string());
        answer.split("\"Id\":\"").nth(1).unwrap()[..64].to_owned()
    }

    /// Fills up to the rate that is wanted.
    fn rename(&self, client: usize) {
        let name = |side: &str, number: usize| format!("{side}{client}.{number}");
        let ids: Vec<String> = (0..RENAMED).map(|n| self.container(&name("even", n), "true", false)).collect();
        let mut turn = 0;
        while !self.is_over() {
            let due = self.began.elapsed().as_millis() * u128::from(EVENTS_PER_SEC) / 1000;
            if u128::from(self.events.load(Ordering::Relaxed)) >= due {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let side = if (turn / RENAMED).is_multiple_of(2) { "odd" } else { "even" };
            let number = turn % RENAMED;
            self.ask("POST", &format!("/containers/{}/rename?name={}", ids[number], name(side, number)), "");
            turn += 1;
        }
    }

    /// Containers as people run them: removed when they end, every third of them badly.
    fn run(&self) {
        for turn in 0_u64.. {
            let due = self.began + RUN_EVERY * u32::try_from(turn).unwrap();
            if !self.wait_until(due) {
                return;
            }
            let id = self.container(&format!("run{turn}"), if turn % 3 == 0 { "exit 1" } else { "exit 0" }, true);
            self.ask("POST", &format!("/containers/{id}/start"), "");
        }
    }

    fn make(&self) {
        for turn in 0_u64.. {
            if !self.wait_until(self.began + MAKE_EVERY * u32::try_from(turn).unwrap()) {
                return;
            }
            let id = self.container(&format!("made{turn}"), "true", false);
            self.ask("DELETE", &format!("/containers/{id}"), "");
        }
    }

    fn tag(&self) {
        for turn in 0_u64.. {
            if !self.wait_until(self.began + TAG_EVERY * u32::try_from(turn).unwrap()) {
                return;
            }
            let image = &self.image;
            self.ask("POST", &format!("/images/{image}/tag?repo={}&tag=soak{turn}", self.tag), "");
            self.ask("DELETE", &format!("/images/{}:soak{turn}", self.tag), "");
        }
    }

    /// Whether there is still something to do at that moment.
    fn wait_until(&self, at: Instant) -> bool {
        while !self.is_over() && Instant::now() < at {
            std::thread::sleep(Duration::from_millis(5));
        }
        !self.is_over()
    }
}

impl Drop for Load {
    /// What it made and did not run is nobody's to clear away.
    fn drop(&mut self) {
        for number in 0..RENAMED * CLIENTS {
            for side in ["odd", "even"] {
                let name = format!("{side}{}.{}", number / RENAMED, number % RENAMED);
                let _ = self.api.ask("DELETE", &format!("/containers/{name}?force=1"), "");
            }
        }
    }
}

/// The line that is nearest to all samples, by least squares.
struct Line {
    per_hour: f64,
    mean: f64,
}

impl Line {
    fn through(samples: &[(Duration, u64)]) -> Self {
        let points: Vec<(f64, f64)> = samples.iter().map(|(at, kb)| (at.as_secs_f64() / 3600.0, *kb as f64)).collect();
        let count = points.len() as f64;
        let mean_at = points.iter().map(|point| point.0).sum::<f64>() / count;
        let mean = points.iter().map(|point| point.1).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|point| (point.0 - mean_at).powi(2)).sum();
        let rise: f64 = points.iter().map(|point| (point.0 - mean_at) * (point.1 - mean)).sum();
        Self { per_hour: rise / spread, mean }
    }
}

#[test]
fn a_line_has_the_slope_of_its_points() {
    let samples: Vec<(Duration, u64)> = (0..10).map(|n| (Duration::from_secs(360 * n), 1000 + 20 * n)).collect();
    let line = Line::through(&samples);
    assert!((line.per_hour - 200.0).abs() < 1e-6 && (line.mean - 1090.0).abs() < 1e-6);
}
