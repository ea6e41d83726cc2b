//! The status page in a real Chromium: it is live, it is whole without a script, and everybody can read it.
//!
//! Needs Chromium and its driver, `chromium-driver` on Debian; `SQUALL_CHROMEDRIVER` names another than
//! `/usr/bin/chromedriver`. Pictures of the page are left in `target/screenshots/`.

#[path = "../support/status.rs"]
mod status;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use squall::model::{Cause, Status, StormState};
use squall::serve::{Server, Settings};
use thirtyfour::common::command::FormatRequestData;
use thirtyfour::prelude::*;
use thirtyfour::{LoggingPrefsLogLevel, RequestData, SessionId};
use tokio::sync::watch;

const AUDIT: &str = include_str!("audit.js");
/// How soon what the daemon publishes is on the page.
const LIVE: Duration = Duration::from_secs(2);
const WIDE: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (360, 740);

/// chromedriver, ended by its own process id.
struct Driver {
    process: Child,
    address: String,
    /// Kept, so that it can go on to write there.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    fn start() -> Self {
        let program = std::env::var("SQUALL_CHROMEDRIVER").unwrap_or_else(|_| "/usr/bin/chromedriver".to_owned());
        let mut process = Command::new(&program)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let port = loop {
            let line = lines.next().expect("it says its port").expect("text");
            if let Some(port) =
                line.split("successfully on port ").nth(1).and_then(|rest| rest.trim_end_matches('.').parse().ok())
            {
                break port;
            }
        };
        let port: u16 = port;
        Self { process, address: format!("http://127.0.0.1:{port}"), _said: lines }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Its browser is in its process group, and outlives it otherwise.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// A browser that looks at a server.
struct Browser {
    web: WebDriver,
    url: String,
    status: watch::Sender<Arc<Status>>,
    driver: Driver,
}

#[derive(Debug)]
struct DevTools(&'static str, Value);

impl FormatRequestData for DevTools {
    fn format_request(&self, session: &SessionId) -> RequestData {
        RequestData::new(axum::http::Method::POST, format!("/session/{session}/goog/cdp/execute"))
            .add_body(json!({ "cmd": self.0, "params": self.1 }))
    }
}

impl Browser {
    async fn open(status: Status, has_script: bool) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (sender, receiver) = watch::channel(Arc::new(status));
        let listen = "127.0.0.1:0".parse().expect("an address");
        let settings = Settings { listen, token: None, insecure: false, hosts: Vec::new() };
        let server = Server::bind(settings, receiver).await.expect("it binds");
        let url = format!("http://{}/", server.address());
        tokio::spawn(server.run(std::future::pending()));

        let driver = Driver::start();
        let mut wanted = DesiredCapabilities::chrome();
        for argument in
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        {
            wanted.add_arg(argument).expect("it is taken");
        }
        if !has_script {
            let off = json!({ "profile.managed_default_content_settings.javascript": 2 });
            wanted.add_experimental_option("prefs", off).expect("it is taken");
        }
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All).expect("it is taken");
        let web = WebDriver::builder(&driver.address, wanted)
            .request_timeout(Duration::from_secs(20))
            .connect()
            .await
            .expect("a browser");
        let browser = Self { web, url, status: sender, driver };
        browser.look(WIDE, "light").await;
        browser.web.goto(&browser.url).await.expect("the page");
        browser
    }

    async fn tell(&self, command: &'static str, params: Value) {
        self.web.handle().cmd(DevTools(command, params)).await.expect("it is done");
    }

    /// Through a window of this size, in this scheme.
    async fn look(&self, size: (u32, u32), scheme: &str) {
        let metrics = json!({ "width": size.0, "height": size.1, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" }]);
        self.tell("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    async fn ask(&self, script: &str) -> Value {
        self.web.execute(script, Vec::new()).await.expect("it runs").json().clone()
    }

    /// Waits until the script says true.
    async fn until(&self, script: &str, patience: Duration) -> Duration {
        let before = Instant::now();
        while self.ask(script).await != true {
            assert!(before.elapsed() < patience, "not in time: {script}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        before.elapsed()
    }

    async fn is_live(&self) {
        self.until("return document.getElementById('link').textContent === 'live'", Duration::from_secs(10)).await;
    }

    /// A picture of the whole page.
    async fn picture(&self, file: &str, width: u32, scheme: &str) {
        self.look((width, 700), scheme).await;
        let height = self.ask("return document.documentElement.scrollHeight").await.as_u64().expect("a height");
        self.look((width, u32::try_from(height).expect("a height")), scheme).await;
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/screenshots");
        std::fs::create_dir_all(&directory).expect("it can be made");
        self.web.screenshot(&directory.join(file)).await.expect("it is taken");
    }

    async fn audit(&self, size: (u32, u32), scheme: &str) {
        self.look(size, scheme).await;
        let found = self.ask(AUDIT).await;
        assert_eq!(found, json!([]), "{size:?} {scheme}");
    }

    /// No error, no warning, and nothing that the policy forbade.
    async fn check_console(&self) {
        let said = self.web.get_log("browser").await.expect("a log");
        assert!(said.is_empty(), "{said:?}");
    }

    async fn close(self) {
        self.web.quit().await.expect("it closes");
        drop(self.driver);
    }
}

#[tokio::test]
async fn a_storm_appears_by_itself_and_nothing_that_was_open_closes() {
    let mut state = status::rich(status::now());
    let browser = Browser::open(state.clone(), true).await;
    browser.is_live().await;
    let first = format!("s-{}", state.storms[0].id);
    browser
        .ask(&format!(
            "document.getElementById('{first}').click(); document.getElementById('{first}').focus(); \
             window.scrollTo(0, 300); \
             window.old = document.getElementById('{first}').getBoundingClientRect().top"
        ))
        .await;

    let mut new = status::storm(status::now(), "auth_gateway", Cause::Oom, 17, 9.0, 2);
    new.detail = "<b>not bold</b>".to_owned();
    state.storms.insert(0, new);
    state.at = status::now();
    browser.status.send_replace(Arc::new(state.clone()));
    let took = browser.until("return document.querySelectorAll('[data-storm]').length === 6", LIVE).await;
    assert!(took < LIVE);
    let kept = browser
        .ask(&format!(
            "return [document.getElementById('{first}').parentElement.open, document.activeElement.id, \
             Math.abs(window.old - document.getElementById('{first}').getBoundingClientRect().top) < 2, \
             document.getElementById('said').textContent, document.title.slice(0, 10), \
             document.querySelectorAll('b').length]"
        ))
        .await;
    assert_eq!(kept, json!([true, first, true, "New: auth_gateway: oom", "(5) storms", 0]));

    // What goes, goes; what is calm again is said to be.
    browser.status.send_replace(Arc::new(status::calm(status::now())));
    browser.until("return !document.querySelector('[data-storm]')", LIVE).await;
    browser.until("return document.querySelector('h1').textContent === 'Calm: 41\\u00a0services'", LIVE).await;
    browser.check_console().await;
    browser.close().await;
}

#[tokio::test]
async fn the_page_is_whole_without_a_script() {
    let browser = Browser::open(status::rich(status::now()), false).await;
    let text = browser.web.find(By::Tag("body")).await.expect("a body").text().await.expect("text");
    for part in [
        "4 storms, 2 held, all else calm",
        "shop_api",
        "registry-quota",
        "toomanyrequests",
        "edge_cache",
        "pager",
        "squall was not running",
        "gpu_render",
        "squall 0.1.0",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Only without a script is what `noscript` holds an element.
    browser.web.find(By::Css("noscript meta[http-equiv=refresh]")).await.expect("it comes anew by itself");
    // What is folded opens without one.
    let summary = browser.web.find(By::Css(".storm summary")).await.expect("a summary");
    summary.click().await.expect("it opens");
    let advice = browser.web.find(By::Css(".storm details[open] .facts")).await.expect("the facts").text().await;
    assert!(advice.expect("text").contains("log in to docker.io"));
    browser.close().await;
}

#[tokio::test]
async fn everybody_can_read_it() {
    let browser = Browser::open(status::rich(status::now()), true).await;
    browser.is_live().await;
    for scheme in ["light", "dark"] {
        browser.picture(&format!("page-{scheme}.png"), WIDE.0, scheme).await;
    }
    browser.picture("page-phone.png", PHONE.0, "light").await;
    for is_open in [false, true] {
        browser.ask(&format!("document.querySelectorAll('details').forEach((part) => part.open = {is_open})")).await;
        for (size, scheme) in
            [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark"), ((820, 900), "light")]
        {
            browser.audit(size, scheme).await;
        }
    }
    browser.picture("page-open.png", WIDE.0, "dark").await;
    browser.picture("page-phone-open.png", PHONE.0, "dark").await;
    browser.check_console().await;
    browser.close().await;
}

#[tokio::test]
async fn calm_and_blind_and_hostile_can_be_read_too() {
    let browser = Browser::open(status::calm(status::now()), true).await;
    browser.is_live().await;
    browser.picture("page-calm.png", WIDE.0, "light").await;
    browser.audit(WIDE, "light").await;
    browser.audit(PHONE, "dark").await;

    let mut long = status::rich(status::now());
    long.storms[0].subject.name = "w".repeat(300);
    long.storms[0].detail = "x".repeat(512);
    long.storms[1].advice = format!("https://example.com/{}", "y".repeat(400));
    long.quarantines[0].next = "z".repeat(300);
    long.receivers[0].name = "r".repeat(200);
    long.registries[0].registry = format!("{}.example", "r".repeat(240));
    long.health.is_ready = false;
    long.storms[2].state = StormState::Subsided;
    browser.status.send_replace(Arc::new(long));
    browser.until("return document.querySelector('.verdict.blind') !== null", LIVE).await;
    browser.ask("document.querySelectorAll('details').forEach((part) => part.open = true)").await;
    for (size, scheme) in [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")] {
        browser.audit(size, scheme).await;
    }
    browser.picture("page-blind.png", WIDE.0, "dark").await;
    browser.check_console().await;
    browser.close().await;
}

#[tokio::test]
async fn every_link_and_fold_is_reached_by_the_tab_key_and_shows_it() {
    let browser = Browser::open(status::rich(status::now()), true).await;
    browser.is_live().await;
    let wanted = browser
        .ask(
            "return [...document.querySelectorAll('a[href], summary, button')].filter((one) => one.checkVisibility()) \
              .map((one, at) => { one.dataset.stop = at; return String(at); })",
        )
        .await;
    let wanted: BTreeSet<String> = serde_json::from_value(wanted).expect("stops");
    let mut reached = BTreeSet::new();
    for _ in 0..wanted.len() + 20 {
        for kind in ["rawKeyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 });
            browser.tell("Input.dispatchKeyEvent", key).await;
        }
        let at = browser
            .ask(
                "const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect(); \
                  return [one.dataset.stop || '', style.outlineStyle, parseFloat(style.outlineWidth), \
                  box.bottom > 0 && box.top < innerHeight && box.width > 0]",
            )
            .await;
        if let Some(stop) = at[0].as_str().filter(|stop| !stop.is_empty()) {
            assert!(at[1] != "none" && at[2].as_f64() > Some(1.0) && at[3] == true, "{at}");
            reached.insert(stop.to_owned());
        }
    }
    assert_eq!(reached, wanted);
    browser.check_console().await;
    browser.close().await;
}
