use serde_json::Value;

use super::reading::Reading;
use super::{event, log, object};
use crate::model::{Gap, Timestamp};

/// Reads one line, or one object cut out of an array. Its kind is found by looking at it.
pub fn read_line(line: &str, origin: u16) -> Reading<'_> {
    // A record separator begins each object of `application/json-seq`.
    let line = line.trim_start_matches('\u{1e}').trim_ascii();
    if line.starts_with('{') {
        return read_json(line, origin);
    }
    if line.is_empty() {
        return Reading::Nothing;
    }
    if log::is_logfmt(line) {
        return log::read_logfmt(line, origin, None);
    }
    if is_events_text(line) {
        return Reading::Skipped("events-without-json-format");
    }
    log::read_syslog(line, origin).unwrap_or(Reading::Skipped("not-recognised"))
}

fn read_json(line: &str, origin: u16) -> Reading<'_> {
    if line.starts_with(r#"{"status":"#) || line.starts_with(r#"{"Type":"#) {
        return reading_of_event(line, origin);
    }
    let Ok(object) = serde_json::from_str::<Value>(line) else { return Reading::Skipped("bad-json") };
    if let Some(reading) = object::read_object(&object, origin) {
        return reading;
    }
    let has = |key: &str| object.get(key).is_some();
    if has("Actor") || (has("status") && has("time")) {
        return reading_of_event(line, origin);
    }
    if has("MESSAGE") || has("__REALTIME_TIMESTAMP") {
        return log::read_journal(&object, origin);
    }
    if has("msg") && has("level") {
        return log::read_json_log(&object, origin);
    }
    if let Some(gap) = object.get("squall.gap") {
        return read_gap(gap).map_or(Reading::Skipped("bad-gap"), Reading::Gap);
    }
    Reading::Skipped("unknown-object")
}

fn reading_of_event(line: &str, origin: u16) -> Reading<'_> {
    match event::read_event(line, origin) {
        Ok(Some(observation)) => Reading::Observation(observation),
        Ok(None) => Reading::Nothing,
        Err(reason) => Reading::Skipped(reason),
    }
}

fn read_gap(gap: &Value) -> Option<Gap> {
    let time = |key: &str| Timestamp::parse(gap.get(key)?.as_str()?).ok();
    Some(Gap { from: time("from")?, to: time("to")?, why: gap.get("why")?.as_str()?.to_owned(), open: false })
}

/// `2026-11-20T20:21:26.1Z container die 5f3c... (exitCode=1, ...)`, as `docker events` prints without a format.
fn is_events_text(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next().is_some_and(|time| time.len() >= 20 && time.as_bytes()[4] == b'-' && time.as_bytes()[10] == b'T')
        && matches!(
            words.next(),
            Some(
                "container"
                    | "image"
                    | "network"
                    | "volume"
                    | "service"
                    | "node"
                    | "daemon"
                    | "secret"
                    | "config"
                    | "plugin"
            )
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerAction, Engine, Fact, LogKind, Order, TaskState};

    fn fact(line: &str) -> Fact<'_> {
        match read_line(line, 0) {
            Reading::Observation(observation) => observation.fact,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn skipped(line: &str) -> &'static str {
        match read_line(line, 0) {
            Reading::Skipped(reason) => reason,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn events_of_every_age_read_the_same() {
        let new = r#"{"Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"exitCode":"137","image":"a:1","name":"x"}},"scope":"local","time":5,"timeNano":5000000001}"#;
        let both = r#"{"status":"die","id":"c1","from":"a:1","Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"exitCode":137,"image":"a:1","name":"x"}},"scope":"local","time":5,"timeNano":5000000001}"#;
        assert_eq!(fact(new), fact(both));
        let Fact::Container(container) = fact(new) else { panic!("a container event") };
        assert_eq!(container.action, ContainerAction::Die { exit_code: Some(137) });
        let Fact::Container(oldest) = fact(r#"{"status":"die","id":"c1","from":"a:1","time":5}"#) else {
            panic!("old")
        };
        assert_eq!((&oldest.id, oldest.origin.read().1), (&container.id, container.origin.read().1));
        let Fact::Container(podman) = fact(
            r#"{"Type":"container","Action":"health_status","Actor":{"ID":"c1","Attributes":{"health_status":"unhealthy"}},"time":5}"#,
        ) else {
            panic!("podman")
        };
        assert_eq!(podman.action, ContainerAction::Unhealthy);
    }

    #[test]
    fn an_odd_shape_costs_one_field_not_the_line() {
        for attributes in ["null", "[]", "7", "\"x\"", "true", r#"{"exitCode":{"a":[1]},"name":null,"new":[{}]}"#] {
            let line = format!(
                r#"{{"Type":"container","Action":"start","Actor":{{"ID":"c1","Attributes":{attributes}}},"new":{{}},"time":5}}"#
            );
            assert!(matches!(fact(&line), Fact::Container(_)), "{line}");
        }
        assert_eq!(
            read_line(r#"{"Type":"stack","Action":"x","Actor":{"ID":"a"},"scope":"galaxy","time":5}"#, 0),
            Reading::Nothing
        );
        assert_eq!(
            read_line(r#"{"Type":"container","Action":"checkpointed","Actor":{"ID":"a"},"time":5}"#, 0),
            Reading::Nothing
        );
    }

    #[test]
    fn a_rollouts_progress_is_no_new_order() {
        let line = |attributes: &str| {
            format!(
                r#"{{"Type":"service","Action":"update","Actor":{{"ID":"s","Attributes":{{"name":"x"{attributes}}}}},"time":5}}"#
            )
        };
        let order = |line: String| match fact(&line) {
            Fact::Order { order, .. } => order,
            other => panic!("{other:?}"),
        };
        assert_eq!(order(line("")), Order::Update);
        assert_eq!(order(line(r#","updatestate.new":"completed","updatestate.old":"updating""#)), Order::Progress);
        assert_eq!(order(line(r#","image.new":"b","updatestate.new":"updating""#)), Order::Update);
    }

    const LOGFMT: &str = r#"time="2026-11-20T20:21:26.378254759Z" level=error msg="fatal task error" error="a \"b\" \\ c" module=node/agent/taskmanager node.id=n service.id=s task.id=t"#;

    #[test]
    fn the_log_reads_the_same_in_every_wrapping() {
        let plain = fact(LOGFMT);
        let Fact::Log(log) = &plain else { panic!("a log line") };
        assert_eq!((log.kind, &*log.error, &*log.task_id), (LogKind::TaskFailed, r#"a "b" \ c"#, "t"));
        assert_eq!(fact(&format!("Nov 20 20:21:26 host-1 dockerd[17]: {LOGFMT}")), plain);
        assert_eq!(fact(&format!("2026-11-20T20:21:26.4+00:00 host /usr/bin/dockerd[17]: {LOGFMT}")), plain);
        let message = serde_json::to_string(LOGFMT).expect("json");
        let entry = format!(
            r#"{{"__REALTIME_TIMESTAMP":"1795206086378254","_SYSTEMD_UNIT":"docker.service","MESSAGE":{message}}}"#
        );
        assert_eq!(fact(&entry), plain);
        let bytes = format!(r#"{{"_COMM":"dockerd","MESSAGE":{:?}}}"#, LOGFMT.as_bytes());
        assert_eq!(fact(&bytes), plain);
        let json = r#"{"error":"a \"b\" \\ c","level":"error","module":"x","msg":"fatal task error","node.id":"n","service.id":"s","task.id":"t","time":"2026-11-20T20:21:26.378254759Z"}"#;
        assert_eq!(fact(json), plain);
        assert_eq!(
            fact(r#"time="2026-11-20T20:21:26Z" level=info msg="Daemon has completed initialization""#),
            Fact::Engine(Engine::Started)
        );
    }

    #[test]
    fn what_a_container_wrote_is_never_taken_for_dockerds() {
        let message = serde_json::to_string(LOGFMT).expect("json");
        assert_eq!(
            skipped(&format!(r#"{{"CONTAINER_ID":"c","_COMM":"dockerd","MESSAGE":{message}}}"#)),
            "container-output"
        );
        assert_eq!(skipped(&format!(r#"{{"_COMM":"sh","MESSAGE":{message}}}"#)), "other-program");
        assert_eq!(skipped(&format!("Nov 20 20:21:26 host 5f3c2a[17]: {LOGFMT}")), "other-program");
        assert_eq!(skipped(&format!("Nov 20 20:21:26 host sshd[17]: a dockerd: {LOGFMT}")), "other-program");
    }

    #[test]
    fn what_cannot_be_read_has_a_reason() {
        assert_eq!(skipped(r#"{"Type":"container","Action":"die""#), "bad-json");
        assert_eq!(skipped(r#"{"a":1}"#), "unknown-object");
        assert_eq!(skipped("hello"), "not-recognised");
        assert_eq!(
            skipped("2026-11-20T20:21:26.123456789Z container die 5f3c (exitCode=1)"),
            "events-without-json-format"
        );
        assert_eq!(skipped(r#"{"Type":"container","Action":"die","Actor":{"ID":"x"}}"#), "no-time");
        assert_eq!(skipped(r#"time="2026-11-20T20:21:26Z" msg="fatal task error" task.id="x"#), "bad-logfmt");
        assert_eq!(read_line("", 0), Reading::Nothing);
    }

    #[test]
    fn a_task_of_unknown_words_is_read() {
        let line = r#"{"ID":"t","ServiceID":"s","CreatedAt":"2026-11-20T20:21:26Z","Status":{"State":"hibernating","ContainerStatus":[]},"DesiredState":7,"Spec":{"RestartPolicy":"never"}}"#;
        let Fact::Task(task) = fact(line) else { panic!("a task") };
        assert_eq!((task.state, task.desired), (TaskState::Other, TaskState::Other));
        assert_eq!(task.restart, crate::model::RestartPolicy::default());
    }
}
