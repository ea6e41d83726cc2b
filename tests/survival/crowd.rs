//! Hundreds of services storm at once.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

use std::time::{Duration, Instant};

use serde_json::json;
use squall::model::Timestamp;

use super::api::Api;
use super::trial::{Account, Trial};

const SERVICES: usize = 500;
/// Every so manieth of them is opted in.
const OPTED_IN_EVERY: usize = 20;
/// Between two attempts of one: fifty attempts a second of all are what two cores bear.
const DELAY: Duration = Duration::from_secs(10);
/// How many are created side by side.
const CLIENTS: usize = 4;
/// How long a machine with other things to do may take to fail six times each.
const DEADLINE_SECS: u64 = 1500;

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn five_hundred_services_storm_at_once() {
    let mut trial = Trial::begin("500 services storm at once");
    let mut watch = trial.watch();
    let api = Api::of(&trial.lab);
    let names: Vec<String> = (0..SERVICES).map(|number| format!("storm{number:03}")).collect();
    let responses: Vec<Option<&'static str>> =
        (0..SERVICES).map(|number| (number % OPTED_IN_EVERY == 0).then_some("backoff")).collect();
    // By its digest, which is there: what 500 services ask of a registry is not this trial's matter.
    let image = trial.service("healthy")["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap().to_owned();
    let created = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (api, names, responses, image) = (&api, &names, &responses, &image);
            scope.spawn(move || {
                for number in (client..SERVICES).step_by(CLIENTS) {
                    create(api, &names[number], responses[number], image);
                }
            });
        }
    });
    println!("{SERVICES} services created in {:.1?}", created.elapsed());
    for (name, response) in names.iter().zip(&responses) {
        trial.count(name, *response);
    }
    let mut found = 0;
    watch.until("each of them is found", DEADLINE_SECS, |watch| {
        let onsets = watch.by_service("onset").len();
        if onsets / 100 > found / 100 {
            println!("{onsets} found after {:.0?}, {}", created.elapsed(), watch.usage());
        }
        found = onsets;
        (onsets >= SERVICES).then_some(())
    });
    let took = created.elapsed();
    trial.await_told(&mut watch, DEADLINE_SECS);
    let delays = delays(&trial, &watch.notices("onset"));
    let more = format!(
        "all found {took:.0?} after the first was created; said after its sixth failure in dockerd's log: {:.1?} in \
         the middle, {:.1?} at most; {}",
        delays[delays.len() / 2],
        delays[delays.len() - 1],
        watch.usage()
    );
    let mut account = Account::default();
    trial.settle(watch, "state", &mut account);
    trial.end(&account, "500 services with a missing bind source, restart delay 10 s", &more);
}

fn create(api: &Api, name: &str, response: Option<&str>, image: &str) {
    let labels = response.map_or_else(|| json!({}), |response| json!({"squall.response": response}));
    let nanos = DELAY.as_nanos();
    let spec = json!({
        "Name": name, "Labels": labels, "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": {
            "ContainerSpec": {"Image": image, "Command": ["sleep", "600"],
                "Mounts": [{"Type": "bind", "Source": "/nope", "Target": "/nope"}]},
            "RestartPolicy": {"Condition": "any", "Delay": u64::try_from(nanos).unwrap()},
        },
    });
    let (status, answer) = api.ask("POST", "/services/create", &spec.to_string()).unwrap();
    assert_eq!(status, 201, "{answer}");
}

/// How long after its sixth failure each storm was said, shortest first; nothing where its history told it before.
fn delays(trial: &Trial, onsets: &[serde_json::Value]) -> Vec<Duration> {
    let delay = |line: &serde_json::Value| {
        let failures = trial.lab.failures(line["storm"]["subject"]["id"].as_str().unwrap());
        let said = Timestamp::parse(line["at"].as_str().unwrap()).unwrap();
        failures.get(5).map_or(Duration::ZERO, |sixth| said.since(*sixth))
    };
    let mut delays: Vec<Duration> = onsets.iter().map(delay).collect();
    delays.sort_unstable();
    delays
}
