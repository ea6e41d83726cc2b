//! What each receiver is sent: within the limits that its service documents (`tests/fixtures/receivers/`), with the
//! things that matter, and with nothing of what a daemon said understood as markup.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use squall::model::{Alert, AlertKind, AlertStorm, Cause, Severity, Subject, SubjectKind, Timestamp};
use squall::notify::receiver::{
    Alertmanager, Discord, FormatError, GoogleChat, Kind, Mattermost, Ntfy, PagerDuty, Request, Slack, Teams, Telegram,
    Template, Webhook,
};

const MINUTE: Duration = Duration::from_secs(60);

fn secret(text: &str) -> SecretString {
    text.into()
}

fn webhook(template: Option<&str>, key: Option<&str>) -> Webhook {
    Webhook {
        url: secret("https://hook.example.com/s3cret"),
        headers: vec![("x-token".to_owned(), secret("s3cret"))],
        template: template.map(|text| Template::new(text).expect("a template")),
        signing_key: key.map(secret),
    }
}

fn kinds() -> Vec<Kind> {
    let mention = |text: &str| Some(text.to_owned());
    vec![
        Kind::Slack(Slack { url: secret("https://hooks.slack.com/services/s3cret"), mention: mention("<!here>") }),
        Kind::Discord(Discord { url: secret("https://discord.com/api/webhooks/s3cret"), mention: mention("<@&42>") }),
        Kind::Teams(Teams { url: secret("https://flow.example.com/s3cret"), mention: mention("ops@example.com") }),
        Kind::Mattermost(Mattermost {
            url: secret("https://chat.example.com/hooks/s3cret"),
            mention: mention("@here"),
        }),
        Kind::GoogleChat(GoogleChat {
            url: secret("https://chat.googleapis.com/v1/spaces/x/messages?key=s3cret"),
            mention: mention("<users/all>"),
        }),
        Kind::Telegram(Telegram {
            api_url: Telegram::API_URL.to_owned(),
            token: secret("1:s3cret"),
            chat_id: "-100".to_owned(),
            mention: mention("@oncall"),
        }),
        Kind::Ntfy(Ntfy {
            url: "https://ntfy.sh".to_owned(),
            topic: secret("s3cret"),
            token: Some(secret("tk_s3cret")),
        }),
        Kind::PagerDuty(PagerDuty { url: PagerDuty::EVENTS_URL.to_owned(), routing_key: secret("s3cret") }),
        Kind::Alertmanager(Alertmanager {
            url: "http://alertmanager:9093".to_owned(),
            headers: vec![("authorization".to_owned(), secret("Basic s3cret"))],
            resolve_after: 30 * MINUTE,
        }),
        Kind::Webhook(webhook(None, Some("s3cret"))),
    ]
}

fn kind(name: &str) -> Kind {
    kinds().into_iter().find(|kind| kind.as_str() == name).expect("a kind")
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

fn storm(name: &str) -> AlertStorm {
    AlertStorm {
        id: "00c0ffee00c0ffee".to_owned(),
        subject: Subject {
            kind: SubjectKind::SwarmService,
            name: name.to_owned(),
            id: "k3v9x0a1b2c3".to_owned(),
            stack: Some("shop".to_owned()),
        },
        cause: Cause::ImageMissing,
        detail: "manifest for docker.io/shop/web:7 not found: manifest unknown".to_owned(),
        onset: at("2026-11-20T14:02:00Z"),
        ended: None,
        nodes: vec!["worker1".to_owned(), "worker2".to_owned()],
        severity: Severity::Critical,
        failed: 128,
        exact: true,
        attempts_per_min: 60.0,
        image: "docker.io/shop/web:7".to_owned(),
        registry: "docker.io".to_owned(),
        cost: "each try asks docker.io: 60 tries/min".to_owned(),
        answer: "would hold it: acting is off".to_owned(),
        advice: "push docker.io/shop/web:7 or roll back with docker service rollback shop_web".to_owned(),
    }
}

fn alert(kind: AlertKind, storms: Vec<AlertStorm>) -> Alert {
    Alert {
        id: "0123456789abcdef".to_owned(),
        conversation: "fedcba9876543210".to_owned(),
        kind,
        severity: Severity::Critical,
        at: at("2026-11-20T14:25:00.123456789Z"),
        node: "manager1".to_owned(),
        title: "shop_web restarts in a loop: image-missing, 60/min".to_owned(),
        lines: Vec::new(),
        storms,
        storms_left_out: 0,
        next_step: String::new(),
        ends: false,
        part_of: None,
    }
}

fn onset() -> Alert {
    alert(AlertKind::Onset, vec![storm("shop_web")])
}

fn many() -> Alert {
    let storms = (0..20).map(|number| storm(&format!("shop_service-{number:02}"))).collect();
    Alert { storms_left_out: 300, ..alert(AlertKind::Baseline, storms) }
}

fn subsided() -> Alert {
    let over = AlertStorm { ended: Some(at("2026-11-20T14:15:00Z")), ..storm("shop_web") };
    Alert { severity: Severity::Info, ends: true, ..alert(AlertKind::Subsided, vec![over]) }
}

fn gap() -> Alert {
    let lines = vec!["worker3 was not heard of".to_owned(), "from 13:50 to 14:20 UTC".to_owned()];
    Alert { lines, severity: Severity::Warning, ..alert(AlertKind::Gap, Vec::new()) }
}

/// Every text of the alert replaced.
fn said(mut alert: Alert, text: &str) -> Alert {
    let Alert { title, lines, node, next_step, storms, conversation, .. } = &mut alert;
    for field in [title, node, next_step, conversation] {
        text.clone_into(field);
    }
    *lines = vec![text.to_owned(); 40];
    for storm in storms {
        let AlertStorm { id, subject, detail, nodes, image, registry, cost, answer, advice, .. } = storm;
        for field in [id, &mut subject.name, &mut subject.id, detail, image, registry, cost, answer, advice] {
            text.clone_into(field);
        }
        subject.stack = Some(text.to_owned());
        *nodes = vec![text.to_owned(); 8];
    }
    alert
}

const HOSTILE: &str = "<!channel> @everyone <@U123> <users/all> [x](http://evil) **b** *b* _i_ ~s~ ||s|| `c` </code><b> \
                       & \" \\ \n# h\n- l\r\u{7}\u{202e}gpj\u{200b}\u{2028} \u{1f600} $x$ {{ x }} &lt;";

fn alerts() -> Vec<Alert> {
    let mut alerts = vec![onset(), many(), subsided(), gap()];
    for text in [HOSTILE, "", " \u{200b}\n", "\u{4e2d}\u{6587}日本語 😀👩‍👩‍👧‍👦", "\u{202e}", "\""]
    {
        alerts.extend([said(onset(), text), said(many(), text), said(gap(), text)]);
    }
    for unit in ["a", "<", "&", "\"", "\\", "*", "`", "@", "😀", "中", "\u{7}", "://"] {
        alerts.extend([
            said(onset(), &unit.repeat(5_000)),
            said(many(), &unit.repeat(5_000)),
            said(gap(), &unit.repeat(5_000)),
        ]);
    }
    alerts.extend(AlertKind::ALL.iter().map(|kind| Alert { kind: *kind, ..onset() }));
    alerts
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/receivers/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("a fixture")).expect("JSON")
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.expose_secret())
}

fn units(text: &str) -> u64 {
    text.encode_utf16().count() as u64
}

/// What of JSON Schema the fixtures use. Lengths are in UTF-16 units, which is the strictest reading.
fn faults(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut fault = |what: &str| found.push(format!("{path}: {what}"));
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return fault("is another constant");
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return fault("is none of the words");
    }
    let is_of_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => true,
    };
    if !is_of_type {
        return fault("is of another type");
    }
    let bound = |name: &str| schema[name].as_u64();
    if let Some(text) = value.as_str() {
        if units(text) < bound("minLength").unwrap_or(0) || units(text) > bound("maxLength").unwrap_or(u64::MAX) {
            fault(&format!("has {} characters", units(text)));
        }
        if schema["format"] == "date-time" && Timestamp::parse(text).is_err() {
            fault("is no time");
        }
    }
    if let Some(number) = value.as_u64()
        && (number < bound("minimum").unwrap_or(0) || number > bound("maximum").unwrap_or(u64::MAX))
    {
        fault("is out of range");
    }
    if let Some(items) = value.as_array() {
        let count = items.len() as u64;
        if count < bound("minItems").unwrap_or(0) || count > bound("maxItems").unwrap_or(u64::MAX) {
            fault(&format!("has {count} items"));
        }
        for (number, item) in items.iter().enumerate() {
            faults(&schema["items"], item, &format!("{path}[{number}]"), found);
        }
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                found.push(format!("{path}: lacks {name}"));
            }
        }
        for (name, member) in object {
            let rule = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
            match rule {
                Some(Value::Bool(false)) => found.push(format!("{path}: {name} is unknown")),
                Some(rule) => faults(rule, member, &format!("{path}.{name}"), found),
                None => {}
            }
        }
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let tried = choices.iter().map(|choice| {
            let mut found = Vec::new();
            faults(choice, value, path, &mut found);
            found
        });
        // That which is nearest is that which says most.
        found.extend(tried.max_by_key(|found| found.is_empty()).unwrap_or_default());
    }
}

/// The texts of a value, in its order.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(members) => members.values().for_each(|member| texts(member, found)),
        _ => {}
    }
}

fn all_text(value: &Value) -> String {
    let mut found = Vec::new();
    texts(value, &mut found);
    found.join("\n")
}

/// The text of Telegram's or Google's HTML as it is shown; only these tags, closed in order, and these entities.
fn html_text(html: &str, tags: &[&str]) -> String {
    let mut shown = String::new();
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(char) = rest.chars().next() {
        if char == '<' {
            let (tag, after) = rest[1..].split_once('>').expect("a tag ends");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{html}"),
                None if tag == "br" && tags.contains(&"br") => shown.push('\n'),
                None => {
                    assert!(tags.contains(&tag), "<{tag}> in {html}");
                    open.push(tag.split(' ').next().unwrap_or(tag));
                }
            }
            rest = after;
        } else if char == '&' {
            let (entity, after) = rest[1..].split_once(';').expect("an entity ends");
            shown.push(match entity {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                other => panic!("&{other}; in {html}"),
            });
            rest = after;
        } else {
            shown.push(char);
            rest = &rest[char.len_utf8()..];
        }
    }
    assert!(open.is_empty(), "{open:?} in {html}");
    shown
}

/// Markdown without its code spans and what is escaped: nothing in it may mean anything, but for our own `**label**`.
fn assert_inert_markdown(text: &str) {
    for line in text.lines() {
        let mut bare = String::new();
        let mut chars = line.strip_prefix("#### ").unwrap_or(line).chars();
        while let Some(char) = chars.next() {
            match char {
                '\\' => bare.push_str(chars.next().map_or("", |_| " ")),
                '`' => assert!(chars.by_ref().any(|char| char == '`'), "open code in {line}"),
                char => bare.push(char),
            }
        }
        for label in ["Why", "Image", "Cost", "squall", "Next"] {
            bare = bare.replace(&format!("**{label}:**"), "");
        }
        assert!(!bare.contains(['*', '_', '~', '|', '[', ']', '<', '>']), "markup in {line}");
        assert!(!bare.contains("://"), "a link in {line}");
        let bytes = bare.as_bytes();
        for (place, _) in bare.match_indices('@') {
            let is_in_word = place > 0 && bytes[place - 1].is_ascii_alphanumeric();
            let begins_word = bytes.get(place + 1).is_some_and(u8::is_ascii_alphanumeric);
            assert!(is_in_word || !begins_word, "a mention in {line}");
        }
    }
}

/// Checks a request against the fixture of its service, and what no schema says.
fn check(kind: &Kind, alert: &Alert, request: &Request) {
    let name = kind.as_str();
    let fixture = fixture(name);
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let mut found = Vec::new();
    faults(&fixture["schema"], &body, name, &mut found);
    let limit = |name: &str| fixture[name].as_u64().expect("a limit of the fixture");
    if let Some(max) = fixture["body_bytes_max"].as_u64() {
        assert!(request.body.len() as u64 <= max, "{name}: {} bytes", request.body.len());
    }
    assert_eq!(header(request, "content-type"), Some("application/json; charset=utf-8"));
    let names: BTreeSet<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), request.headers.len(), "each header once");
    let shown = all_text(&body);
    let is_steered = |char: char| (char.is_control() && char != '\n') || ('\u{202a}'..='\u{202e}').contains(&char);
    assert!(!shown.contains(is_steered), "{name}: {shown:?}");

    let mention = |kind: Option<&String>| kind.cloned().unwrap_or_default();
    match kind {
        Kind::Slack(slack) => {
            assert!(units(&body["blocks"].to_string()) <= limit("blocks_characters_max"));
            assert!(!body["text"].as_str().expect("text").contains(['<', '>']), "{body}");
            for section in body["blocks"].as_array().expect("blocks").iter().filter(|block| block["type"] == "section")
            {
                assert_eq!(section["text"]["text"], json!(mention(slack.mention.as_ref())));
            }
        }
        Kind::Discord(_) => {
            let embed = &body["embeds"][0];
            assert!(units(&all_text(&body["embeds"])) <= limit("embeds_characters_max"));
            assert_inert_markdown(embed["title"].as_str().expect("a title"));
            assert_inert_markdown(embed["description"].as_str().expect("a description"));
            let pings = body.get("content").is_some();
            let allowed = if pings { json!({"parse": [], "roles": ["42"]}) } else { json!({"parse": []}) };
            assert_eq!(body["allowed_mentions"], allowed);
            assert!(!pings || body["content"] == "<@&42>");
        }
        Kind::Teams(_) => {
            let card = &body["attachments"][0]["content"];
            for block in card["body"].as_array().expect("a body").iter().filter(|block| block["type"] == "TextBlock") {
                assert_eq!(block["text"], card["msteams"]["entities"][0]["text"]);
            }
        }
        Kind::Mattermost(_) => {
            let text = body["text"].as_str().expect("text").replace("\n@here\n", "\n");
            assert_inert_markdown(&text);
        }
        Kind::GoogleChat(_) => {
            for widget in body["cardsV2"][0]["card"]["sections"][0]["widgets"].as_array().expect("widgets") {
                let text = widget["textParagraph"]["text"].as_str().expect("text");
                html_text(text, &["b", "br", "font color=\"#5f6368\""]);
            }
            assert!(body.get("text").is_none_or(|text| text == "<users/all>"));
            assert!(!body["fallbackText"].as_str().expect("text").contains('<'));
            let url = request.url.expose_secret();
            assert!(url.ends_with("?key=s3cret&messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD"), "{url}");
        }
        Kind::Telegram(_) => {
            let text = html_text(body["text"].as_str().expect("text"), &["b", "code"]);
            assert!(units(&text) <= limit("text_characters_max"), "{} characters", units(&text));
            assert_eq!(request.url.expose_secret(), "https://api.telegram.org/bot1:s3cret/sendMessage");
        }
        Kind::Ntfy(_) => {
            let of = |name: &str| body[name].as_str().expect("text").len() as u64;
            assert!(of("message") <= limit("message_bytes_max"));
            assert!(of("message") + of("title") <= limit("title_and_message_bytes_max"));
            assert_eq!(header(request, "authorization"), Some("Bearer tk_s3cret"));
        }
        Kind::PagerDuty(_) => {}
        Kind::Alertmanager(_) => {
            let mut seen = BTreeSet::new();
            for posted in body.as_array().expect("alerts") {
                for name in
                    ["labels", "annotations"].iter().flat_map(|set| posted[*set].as_object().expect("a set").keys())
                {
                    assert!(name.chars().all(|char| char.is_ascii_lowercase() || char == '_'), "{name}");
                }
                let time = |name: &str| at(posted[name].as_str().expect("a time"));
                assert!(time("startsAt") <= time("endsAt"), "{posted}");
                seen.insert(posted["labels"].to_string());
            }
            let is_told_apart = alert.storms.iter().map(|storm| &storm.subject.name).collect::<BTreeSet<_>>().len() > 1;
            assert!(!is_told_apart || seen.len() == body.as_array().map_or(0, Vec::len), "{body}");
        }
        Kind::Webhook(_) => {}
    }
    assert!(found.is_empty(), "{found:#?}\n{body:#}");
}

fn request(kind: &Kind, alert: &Alert) -> Request {
    kind.request(alert).expect("it can be put into words").expect("there is something to tell")
}

fn body(kind: &Kind, alert: &Alert) -> Value {
    serde_json::from_slice(&request(kind, alert).body).expect("JSON")
}

#[test]
fn what_is_sent_keeps_to_what_each_service_documents() {
    for kind in kinds() {
        for alert in alerts() {
            if let Some(request) = kind.request(&alert).expect("it can be put into words") {
                check(&kind, &alert, &request);
            }
        }
    }
}

/// Texts as they are and as they are not, long and short.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[<>&\"\\\\`*_~|@:/#!\\[\\]()\n a]{0,80}",
        ("[<&\"`*@😀中a\u{202e}]", 0..3_000_usize).prop_map(|(unit, times)| unit.repeat(times)),
    ]
}

prop_compose! {
    fn any_storm()(
        texts in prop::collection::vec(any_text(), 10),
        nodes in prop::collection::vec(any_text(), 0..12),
        onset: i64, ended: Option<i64>, failed: u64, pace: f64, cause in prop::sample::select(Cause::ALL),
    ) -> AlertStorm {
        let [id, name, subject_id, stack, detail, image, registry, cost, answer, advice] =
            <[String; 10]>::try_from(texts).expect("ten");
        let stack = Some(stack).filter(|stack| stack.len() % 2 == 0);
        AlertStorm {
            id, cause, detail, nodes, failed, image, registry, cost, answer, advice, exact: failed % 2 == 0,
            subject: Subject { kind: SubjectKind::SwarmService, name, id: subject_id, stack },
            onset: Timestamp::from_nanos(onset),
            ended: ended.map(Timestamp::from_nanos),
            attempts_per_min: pace,
            severity: Severity::Warning,
        }
    }
}

prop_compose! {
    fn any_alert()(
        texts in prop::collection::vec(any_text(), 5),
        lines in prop::collection::vec(any_text(), 0..30),
        storms in prop::collection::vec(any_storm(), 0..20),
        kind in prop::sample::select(AlertKind::ALL), severity in prop::sample::select(Severity::ALL),
        at: i64, storms_left_out: u64, ends: bool,
    ) -> Alert {
        let [id, conversation, node, title, next_step] = <[String; 5]>::try_from(texts).expect("five");
        let id = if id.is_empty() { "0".to_owned() } else { id };
        let at = Timestamp::from_nanos(at);
        let part_of = Some(node.clone()).filter(|_| ends);
        Alert {
            id, conversation, kind, severity, at, node, title, lines, storms, storms_left_out, next_step, ends, part_of,
        }
    }
}

#[test]
fn no_text_whatever_breaks_a_payload() {
    let config = Config {
        cases: 256,
        rng_seed: RngSeed::Fixed(0x5ca1_ab1e),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let kinds = kinds();
    proptest!(config, |(alert in any_alert())| {
        for kind in &kinds {
            let Some(request) = kind.request(&alert).expect("it can be put into words") else { continue };
            check(kind, &alert, &request);
        }
    });
}

#[test]
fn a_person_at_night_is_told_what_where_since_when_how_often_why_and_what_to_do() {
    for name in ["slack", "discord", "teams", "mattermost", "google-chat", "telegram", "ntfy"] {
        let body = body(&kind(name), &onset());
        // As it is shown: without markup.
        let shown = all_text(&body).replace(['\u{200b}', '\\', '`'], "").replace("<b>", "").replace("</b>", "");
        let told = [
            "shop_web restarts in a loop: image-missing, 60/min",
            "shop_web",
            "in stack shop on worker1, worker2",
            "since 14:02 UTC (23 min), failed 128 times, 60/min",
            "image-missing",
            "manifest for docker.io/shop/web:7 not found: manifest unknown",
            "each try asks docker.io: 60 tries/min",
            "would hold it: acting is off",
            "push docker.io/shop/web:7 or roll back with docker service rollback shop_web",
            "critical onset, said by manager1 at 2026-11-20 14:25 UTC",
        ];
        for text in told {
            assert!(shown.contains(text), "{name} does not say {text}:\n{shown}");
        }
    }
}

#[test]
fn of_many_storms_each_is_named_and_the_others_are_counted() {
    for name in ["slack", "discord", "teams", "mattermost", "google-chat", "telegram", "ntfy", "pagerduty"] {
        let shown = all_text(&body(&kind(name), &many())).replace('\\', "");
        for number in 0..20 {
            assert!(shown.contains(&format!("shop_service-{number:02}")), "{name}: {number}\n{shown}");
        }
        assert!(shown.contains("and 300 more storms"), "{name}: {shown}");
        assert!(shown.contains("docker service rollback shop_web"), "{name}: {shown}");
    }
    assert_eq!(body(&kind("alertmanager"), &many()).as_array().map(Vec::len), Some(20));
}

#[test]
fn storms_of_three_causes_have_three_next_steps_and_one_that_is_over_has_none() {
    let oom = of_cause("over", Cause::Oom, "raise the limit");
    let over = AlertStorm { ended: Some(at("2026-11-20T14:15:00Z")), ..oom };
    let port = |name: &str| of_cause(name, Cause::Port, "free the port on the node");
    let storms = vec![
        of_cause("shop-api", Cause::Mount, "create the source"),
        over,
        port("shop-a"),
        of_cause("shop-web", Cause::Entrypoint, "correct the command"),
        port("shop-b"),
    ];
    // A digest takes the first step that it finds.
    let alert = Alert { next_step: "create the source".to_owned(), ..alert(AlertKind::Onset, storms) };
    let steps = [
        "2 port (shop-a, shop-b): free the port on the node",
        "1 entrypoint (shop-web): correct the command",
        "1 mount (shop-api): create the source",
    ];
    for name in ["slack", "discord", "teams", "mattermost", "google-chat", "telegram", "ntfy", "pagerduty"] {
        let shown = all_text(&body(&kind(name), &alert)).replace(['\\', '\u{200b}'], "");
        assert!(steps.iter().all(|step| shown.contains(step)), "{name}: {shown}");
        assert!(!shown.contains("raise the limit"), "{name}: {shown}");
    }
    let of_alertmanager = body(&kind("alertmanager"), &alert);
    let advice: Vec<&Value> =
        of_alertmanager.as_array().expect("alerts").iter().map(|one| &one["annotations"]["advice"]).collect();
    let free = json!("free the port on the node");
    assert_eq!(advice, [&json!("create the source"), &Value::Null, &free, &json!("correct the command"), &free]);
    let steps = json!([
        {"cause": "port", "services": ["shop-a", "shop-b"], "advice": free, "advised": ["shop-a", "shop-b"]},
        {"cause": "entrypoint", "services": ["shop-web"], "advice": "correct the command", "advised": ["shop-web"]},
        {"cause": "mount", "services": ["shop-api"], "advice": "create the source", "advised": ["shop-api"]},
    ]);
    assert_eq!(body(&kind("webhook"), &alert)["next_steps"], steps);
    let template = "{% for step in next_steps %}{{ step.cause }}: {{ step.advice }}\n{% endfor %}";
    let filled = request(&Kind::Webhook(webhook(Some(template), None)), &alert);
    assert!(String::from_utf8_lossy(&filled.body).contains("mount: create the source"));
}

fn of_cause(name: &str, cause: Cause, advice: &str) -> AlertStorm {
    AlertStorm { cause, advice: advice.to_owned(), ..storm(name) }
}

/// The next steps as PagerDuty has them.
#[track_caller]
fn assert_steps(alert: &Alert, wanted: &[&str]) {
    let told = body(&kind("pagerduty"), alert)["payload"]["custom_details"]["next_step"].clone();
    assert_eq!(told.as_str().unwrap_or_default().lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_storm_that_is_over_counts_for_no_next_step() {
    let of = |storms: &[&AlertStorm]| alert(AlertKind::Onset, storms.iter().copied().cloned().collect());
    let port = |name: &str| of_cause(name, Cause::Port, "free the port");
    let over = AlertStorm { ended: Some(at("2026-11-20T14:15:00Z")), ..port("over") };
    let oom = of_cause("big", Cause::Oom, "raise the limit");
    let steps = ["2 port (a, b): free the port", "1 oom (big): raise the limit"];
    assert_steps(&of(&[&oom, &port("a"), &over, &port("b")]), &steps);
    assert_steps(&of(&[&oom, &over]), &["1 oom (big): raise the limit"]);
    assert_steps(&of(&[&oom]), &["raise the limit"]);
    assert_steps(&of(&[&over]), &[]);
    // It is given back: nobody has to do anything.
    let released = Alert { kind: AlertKind::Release, ..of(&[&oom]) };
    assert_eq!(body(&kind("webhook"), &released)["next_steps"], json!([]));
}

#[test]
fn next_steps_are_few_and_say_how_many_there_are_beyond_them() {
    let all = alert(AlertKind::Onset, ["a", "b", "c", "d"].map(|name| of_cause(name, Cause::Port, "free it")).to_vec());
    assert_steps(&all, &["4 port (a, b, c and 1 more): free it"]);
    assert_steps(&Alert { storms_left_out: 9, ..all }, &["at least 4 port (a, b, c and 1 more): free it"]);
    let storms: Vec<AlertStorm> = Cause::ALL.iter().take(7).map(|cause| of_cause("a", *cause, "do it")).collect();
    let told = body(&kind("pagerduty"), &alert(AlertKind::Onset, storms));
    let steps = told["payload"]["custom_details"]["next_step"].as_str().expect("steps").to_owned();
    assert_eq!(steps.lines().count(), 6, "{steps}");
    assert!(steps.ends_with("\nand 2 more causes"), "{steps}");
}

#[test]
fn advice_that_fits_one_of_many_services_names_it() {
    let logs = |name: &str| of_cause(name, Cause::AppExit, &format!("docker service logs {name}"));
    let two = alert(AlertKind::Onset, vec![logs("a"), logs("b")]);
    assert_steps(&two, &["2 app-exit (a, b); for a: docker service logs a"]);
    let same = of_cause("c", Cause::AppExit, "docker service logs a");
    let three = alert(AlertKind::Onset, vec![logs("a"), logs("b"), same]);
    assert_steps(&three, &["3 app-exit (a, b, c); for 2 of them: docker service logs a"]);
}

#[test]
fn an_alert_without_storms_has_a_next_step_of_its_own() {
    let own = Alert { next_step: "see dockerd's log".to_owned(), ..alert(AlertKind::Trouble, Vec::new()) };
    assert_steps(&own, &["see dockerd's log"]);
    // Older versions left alerts without advice in the outbox.
    assert_steps(&Alert { storms: vec![of_cause("a", Cause::Port, "")], ..own }, &["see dockerd's log"]);
}

#[test]
fn of_what_is_far_too_long_the_title_a_service_and_the_next_step_are_left() {
    let long = |word: &str| format!("{word} {}", "x".repeat(5_000));
    let mut alert = said(many(), &long("text"));
    alert.title = long("TITLE");
    alert.storms.iter_mut().for_each(|storm| storm.advice = long("STEP"));
    alert.storms[0].subject.name = long("SERVICE");
    for name in
        ["slack", "discord", "teams", "mattermost", "google-chat", "telegram", "ntfy", "pagerduty", "alertmanager"]
    {
        let shown = all_text(&body(&kind(name), &alert));
        // Alertmanager's own page is about storms; a title is about all of them.
        let told: &[&str] = if name == "alertmanager" { &["STEP", "SERVICE"] } else { &["TITLE", "STEP", "SERVICE"] };
        assert!(told.iter().all(|word| shown.contains(word)), "{name}: {shown}");
        assert!(shown.contains('…'), "{name}: {shown}");
    }
}

#[test]
fn only_what_asks_for_action_pings() {
    let pings = |alert: &Alert| {
        let kinds = kinds().into_iter().filter(|kind| {
            let Some(request) = kind.request(alert).expect("it can be put into words") else { return false };
            let text = String::from_utf8(request.body).expect("UTF-8");
            ["<!here>", "<@&42>", "<at>ops@example.com</at>", "@here", "<users/all>", "@oncall"]
                .iter()
                .any(|mention| text.contains(mention))
        });
        kinds.map(|kind| kind.as_str()).collect::<Vec<_>>()
    };
    let all = ["slack", "discord", "teams", "mattermost", "google-chat", "telegram"];
    assert_eq!(pings(&onset()), all);
    assert_eq!(pings(&Alert { kind: AlertKind::Trouble, ..gap_at(Severity::Critical) }), all);
    let silent: [&str; 0] = [];
    assert_eq!(pings(&gap_at(Severity::Warning)), silent);
    assert_eq!(pings(&Alert { severity: Severity::Critical, ..subsided() }), silent);
    let ended = Alert { kind: AlertKind::Recovered, ends: true, ..onset() };
    assert_eq!(pings(&ended), silent);
}

fn gap_at(severity: Severity) -> Alert {
    Alert { severity, ..gap() }
}

#[test]
fn a_payload_beyond_a_limit_is_found() {
    let rule = fixture("slack")["schema"].clone();
    let found = |change: &dyn Fn(&mut Value)| {
        let mut body = body(&kind("slack"), &onset());
        change(&mut body);
        let mut found = Vec::new();
        faults(&rule, &body, "slack", &mut found);
        !found.is_empty()
    };
    assert!(!found(&|_| {}));
    assert!(found(&|body| body["blocks"][0]["text"]["text"] = json!("x".repeat(151))));
    assert!(found(&|body| body["blocks"][0]["text"]["text"] = json!("")));
    assert!(found(&|body| body["blocks"] = vec![body["blocks"][0].clone(); 51].into()));
    assert!(found(&|body| body["blocks"][0]["text"]["type"] = json!("mrkdwn")));
    assert!(found(&|body| body["unfurl"] = json!(true)));
    assert!(found(&|body| drop(body.as_object_mut().expect("an object").remove("text"))));
}

#[test]
fn the_same_alert_is_the_same_bytes() {
    for (kind, again) in kinds().iter().zip(kinds()) {
        for alert in alerts() {
            let (one, two) = (kind.request(&alert).expect("a request"), again.request(&alert).expect("a request"));
            assert_eq!(one.map(|request| request.body), two.map(|request| request.body));
        }
    }
}

#[test]
fn no_secret_is_in_what_debugging_prints() {
    for kind in kinds() {
        let printed = format!("{kind:?} {:?}", request(&kind, &onset()));
        assert!(!printed.contains("s3cret"), "{printed}");
    }
    let templated = Kind::Webhook(webhook(Some("token=s3cret"), None));
    assert!(!format!("{templated:?}").contains("s3cret"));
}

#[test]
fn pagerduty_is_triggered_added_to_and_resolved_by_one_key() {
    let pagerduty = kind("pagerduty");
    let begun = body(&pagerduty, &onset());
    assert_eq!((&begun["event_action"], &begun["dedup_key"]), (&json!("trigger"), &json!("fedcba9876543210")));
    assert_eq!(begun["payload"]["component"], "shop_web");
    let ended = body(&pagerduty, &subsided());
    assert_eq!((&ended["event_action"], &ended["dedup_key"]), (&json!("resolve"), &begun["dedup_key"]));
    for kind in [AlertKind::Subsided, AlertKind::Release, AlertKind::Recovered, AlertKind::Summary] {
        let told = pagerduty.request(&Alert { kind, ..onset() }).expect("a request");
        assert!(told.is_none(), "{kind} wakes somebody");
    }
    let drill = Alert { kind: AlertKind::Drill, ..onset() };
    assert_eq!(body(&pagerduty, &drill)["event_action"], "trigger");
    assert_eq!(body(&pagerduty, &Alert { ends: true, ..drill })["event_action"], "resolve");
}

#[test]
fn alertmanager_is_told_what_fires_and_until_when() {
    let alertmanager = kind("alertmanager");
    let posted = request(&alertmanager, &onset());
    assert_eq!(posted.url.expose_secret(), "http://alertmanager:9093/api/v2/alerts");
    assert_eq!(header(&posted, "authorization"), Some("Basic s3cret"));
    let fires = &body(&alertmanager, &onset())[0];
    let labels = json!({
        "alertname": "SquallStorm", "service": "shop_web", "stack": "shop", "cause": "image-missing",
        "registry": "docker.io", "severity": "critical", "storm": "00c0ffee00c0ffee",
    });
    assert_eq!(fires["labels"], labels);
    assert_eq!(fires["startsAt"], "2026-11-20T14:02:00Z");
    assert_eq!(fires["endsAt"], "2026-11-20T14:55:00.123456789Z");
    assert_eq!(fires["annotations"]["advice"], onset().storms[0].advice);
    // What says that it is over has a severity of its own; what fires must end all the same.
    let over = body(&alertmanager, &subsided());
    let of_same = over.as_array().expect("alerts").iter().find(|ended| ended["labels"] == labels).expect("the same");
    assert_eq!(of_same["endsAt"], "2026-11-20T14:15:00Z");
    let ends = |alert: &Alert| body(&alertmanager, alert)[0]["endsAt"].clone();
    assert_eq!(ends(&Alert { ends: true, ..onset() }), "2026-11-20T14:25:00.123456789Z");
    let trouble = body(&alertmanager, &Alert { kind: AlertKind::Trouble, ..gap() });
    let recovered = body(&alertmanager, &Alert { kind: AlertKind::Recovered, ..gap() });
    assert_eq!(trouble[0]["labels"]["alertname"], "SquallTrouble");
    assert!(recovered.as_array().expect("alerts").iter().any(|over| over["labels"] == trouble[0]["labels"]));
    assert_eq!(body(&alertmanager, &gap())[0]["labels"]["alertname"], "SquallGap");
    let mut bare = onset();
    bare.storms[0].subject.stack = None;
    bare.storms[0].registry.clear();
    let labels = body(&alertmanager, &bare)[0]["labels"].clone();
    assert!(labels.get("stack").is_none() && labels.get("registry").is_none(), "{labels}");
}

#[test]
fn a_discord_mention_is_all_that_may_ping() {
    let allowed = |mention: &str| {
        let discord = Discord { url: secret("https://discord.com"), mention: Some(mention.to_owned()) };
        body(&Kind::Discord(discord), &onset())["allowed_mentions"].clone()
    };
    assert_eq!(allowed("<@&7>"), json!({"parse": [], "roles": ["7"]}));
    assert_eq!(allowed("<@7>"), json!({"parse": [], "users": ["7"]}));
    assert_eq!(allowed("<@!7>"), json!({"parse": [], "users": ["7"]}));
    assert_eq!(allowed("@here"), json!({"parse": ["everyone"]}));
    assert_eq!(allowed("hello"), json!({"parse": []}));
}

#[test]
fn a_webhook_gets_the_alert_with_its_schema_and_its_id() {
    let posted = request(&kind("webhook"), &onset());
    let mut body: Value = serde_json::from_slice(&posted.body).expect("JSON");
    assert_eq!(body["schema"], "squall.alert/1");
    body.as_object_mut().expect("an object").remove("schema");
    assert_eq!(serde_json::from_value::<Alert>(body).expect("an alert"), onset());
    assert_eq!(header(&posted, "x-squall-delivery"), Some("0123456789abcdef"));
    assert_eq!(header(&posted, "x-token"), Some("s3cret"));
}

#[test]
fn a_webhook_is_signed_as_rfc_4231_has_it() {
    // Its second test case.
    let posted = request(&Kind::Webhook(webhook(Some("what do ya want for nothing?"), Some("Jefe"))), &onset());
    assert_eq!(posted.body, b"what do ya want for nothing?");
    let signature = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(header(&posted, "x-squall-signature"), Some(signature));
    let unsigned = request(&Kind::Webhook(webhook(None, None)), &onset());
    assert_eq!(header(&unsigned, "x-squall-signature"), None);
}

#[test]
fn a_template_makes_the_body() {
    let text = r#"{"text": {{ title|tojson }}, "services": [{% for storm in storms %}{{ storm.subject.name|tojson }}{% endfor %}], "kind": "{{ kind }}"}"#;
    let hook = Webhook {
        headers: vec![("Content-Type".to_owned(), secret("application/x-own"))],
        ..webhook(Some(text), None)
    };
    let posted = request(&Kind::Webhook(hook), &said(onset(), "a\"b<c>"));
    let made: Value = serde_json::from_slice(&posted.body).expect("JSON");
    assert_eq!(made, json!({"text": "a\"b<c>", "services": ["a\"b<c>"], "kind": "onset"}));
    assert_eq!(header(&posted, "content-type"), None);
    assert_eq!(header(&posted, "Content-Type"), Some("application/x-own"));
    let plain = request(&Kind::Webhook(webhook(Some("{{ title }}"), None)), &said(onset(), "<b>"));
    assert_eq!(plain.body, b"<b>");
}

#[test]
fn a_template_that_fails_says_where_and_why_and_nothing_of_its_text() {
    let told = |text: &str| match Template::new(text) {
        Err(error) => error,
        Ok(template) => Kind::Webhook(Webhook { template: Some(template), ..webhook(None, None) })
            .request(&onset())
            .expect_err("it fails"),
    };
    let check = |text: &str, line: Option<usize>, reason: &str| {
        let error = told(text);
        let printed = error.to_string();
        assert!(!printed.contains("s3cret"), "{printed}");
        assert!(matches!(&error, FormatError::Template { line: other, .. } if *other == line), "{printed}");
        assert!(printed.contains(reason), "{printed}");
    };
    check("a\n{{ title", Some(2), "syntax error");
    check("\n\n{{ 's3cret' s3cret }}", Some(3), "syntax error: unexpected identifier");
    check("{{ title|s3cret }}", Some(1), "unknown filter");
    check("a\n{{ s3cret }}", Some(2), "undefined value");
    check("{{ s3cret.s3cret }}", Some(1), "undefined value");
    check("{{ 's3cret'|int }}", Some(1), "");
    check("{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}", Some(1), "steps");
    let long = format!("{{% for a in range(9999) %}}{}{{% endfor %}}", "x".repeat(1_000));
    check(&long, None, "bytes");
}
