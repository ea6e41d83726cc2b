//! A day of a Swarm of a thousand services on virtual time, watched by three managers, of which the one that leads acts
//! and alerts. `support/simulated_world.rs` tells how, and checks what must hold.
//!
//! One seed is one day. `SQUALL_SEED=7 cargo test --test simulation` runs that one; a failure names its seed.

#[path = "support/simulated_world.rs"]
#[allow(dead_code, unreachable_pub, reason = "a test binary has no public face, and uses a part of it")]
mod simulated_world;

use std::time::Duration;

use simulated_world::{Size, World};

/// The days that are run where no other is asked for.
const SEEDS: [u64; 3] = [1, 2, 3];
const DAY: Size =
    Size { services: 1000, length: Duration::from_secs(24 * 3600), storms: 170, edits: 260, upsets: 50, mishaps: true };
const MORNING: Size =
    Size { services: 150, length: Duration::from_secs(6 * 3600), storms: 40, edits: 60, upsets: 15, mishaps: true };

fn run(seed: u64, size: Size) -> World {
    let mut world = World::new(seed, size);
    world.run();
    eprintln!("SQUALL_SEED={seed}: {} writes, hash {:016x}, {:?}", world.writes, world.hash, world.counts);
    world
}

#[test]
fn a_day_of_a_thousand_services() {
    let asked = std::env::var("SQUALL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = asked.map_or_else(|| SEEDS.to_vec(), |seed| vec![seed]);
    for seed in seeds {
        let world = run(seed, DAY);
        // A day in which nothing was to be checked proves nothing.
        let whats = ["quarantine", "probe", "raise", "release", "let go", "raced", "lost answers", "restarts"];
        for what in whats.into_iter().chain(["conversations that ended"]) {
            assert!(world.counts.get(what).is_some_and(|count| *count > 0), "SQUALL_SEED={seed}: no {what}");
        }
        for what in ["checked that it is held", "checked that it is back"] {
            assert!(world.counts.get(what).is_some_and(|count| *count >= 5), "SQUALL_SEED={seed}: not {what}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_day() {
    let [first, second] = [(); 2].map(|()| run(11, MORNING));
    assert_eq!((first.writes, first.hash), (second.writes, second.hash));
    assert!(first.writes > 0);
    assert_ne!(first.hash, run(12, MORNING).hash);
}
