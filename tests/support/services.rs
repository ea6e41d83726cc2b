//! Services whose images are at registries of several manners, each in a repository of its own.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::front::{self, Asked, Authentication, Front, Manner, Refusal};
use crate::images;
use crate::lab::Lab;
use Image::{Index, Missing, Single};
use Place::{Abuse, Basic, Bearer, BearerOfLogin, Open, Quota, Unavailable};

/// Nobody asks any more when nobody has asked for so long.
const SILENCE: Duration = Duration::from_secs(2);
/// When they have to have ended.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Where a service's image is: a front, in its order among the lab's ports, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Open,
    Basic,
    Bearer,
    BearerOfLogin,
    Quota,
    Abuse,
    Unavailable,
    Refused,
}

/// Those that are fronts.
pub(crate) const FRONTS: [Place; 7] = [Open, Basic, Bearer, BearerOfLogin, Quota, Abuse, Unavailable];
/// What nobody but a login gets at the front whose tokens are anybody's.
pub(crate) const PRIVATE: &str = "s-denied";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// There is none.
    Missing,
    /// For one platform.
    Single,
    /// For two, behind an index.
    Index,
}

/// A service and what is special about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) image: Image,
    /// The digest is asked for when the service is created.
    pub(crate) is_pinned: bool,
    /// The image is on the node from the start.
    pub(crate) is_present: bool,
    /// The Swarm is given credentials.
    pub(crate) has_login: bool,
    /// How many replicas there are.
    pub(crate) replicas: u64,
    pub(crate) options: &'static [&'static str],
    pub(crate) command: &'static [&'static str],
}

/// A service that takes what the tag is at each attempt; it has credentials where some are wanted.
pub(crate) const fn by_tag(
    name: &'static str,
    place: Place,
    image: Image,
    command: &'static [&'static str],
) -> Service {
    let has_login = matches!(place, Basic | BearerOfLogin);
    Service { name, place, image, is_pinned: false, is_present: false, has_login, replicas: 1, options: &[], command }
}

/// A service whose tag is resolved when it is created.
pub(crate) const fn by_digest(
    name: &'static str,
    place: Place,
    image: Image,
    command: &'static [&'static str],
) -> Service {
    Service { is_pinned: true, ..by_tag(name, place, image, command) }
}

impl Service {
    pub(crate) const fn with(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    pub(crate) const fn times(self, replicas: u64) -> Self {
        Self { replicas, ..self }
    }

    pub(crate) const fn present(self) -> Self {
        Self { is_present: true, ..self }
    }

    pub(crate) const fn without_login(self) -> Self {
        Self { has_login: false, ..self }
    }
}

/// The fronts of one scenario, and the credentials for them.
pub(crate) struct Fronts<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) running: BTreeMap<Place, Front>,
    /// docker's configuration, with the lab's user for each front.
    config: tempfile::TempDir,
}

impl<'a> Fronts<'a> {
    pub(crate) fn start(lab: &'a Lab) -> Self {
        let running: BTreeMap<Place, Front> =
            FRONTS.iter().enumerate().map(|(port, place)| (*place, Front::start(lab, port, manner(*place)))).collect();
        let login = front::login(lab);
        let auths: serde_json::Map<String, Value> =
            running.values().map(|front| (front.address.clone(), json!({"auth": login}))).collect();
        let config = tempfile::tempdir().unwrap();
        fs::write(config.path().join("config.json"), json!({"auths": auths}).to_string()).unwrap();
        Self { lab, running, config }
    }

    pub(crate) fn address(&self, place: Place) -> &str {
        self.running.get(&place).map_or_else(|| self.lab.var("REGISTRY_REFUSED"), |front| &front.address)
    }

    pub(crate) fn repository(&self, service: &Service) -> String {
        format!("{}/{}", self.address(service.place), service.name)
    }

    /// squall's configuration: which fronts want a token, and the repository by which one of them may be asked.
    pub(crate) fn config(&self, dir: &Path, asked: Option<(Place, &str)>) -> PathBuf {
        let mut text = String::new();
        for place in [Bearer, BearerOfLogin, Quota] {
            let address = self.address(place);
            write!(text, "[[registry]]\nname = \"{address}\"\nauthentication = \"bearer\"\n").unwrap();
            if let Some((_, repository)) = asked.filter(|(at, _)| *at == place) {
                write!(text, "url = \"http://{address}\"\nrepository = \"{repository}\"\n").unwrap();
            }
        }
        let path = dir.join("squall.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// docker, with credentials.
    fn docker(&self, args: &[&str]) -> String {
        let mut all = vec!["--config", self.config.path().to_str().unwrap()];
        all.extend(args);
        self.lab.docker(&all)
    }

    /// Puts the image where it is to be, and nowhere else.
    pub(crate) fn prepare(&self, service: &Service) {
        match service.image {
            Missing => {}
            Single => images::push(self.lab, service.name),
            Index => images::push_index(self.lab, service.name),
        }
        if service.is_present {
            self.docker(&["pull", "--quiet", &format!("{}:1", self.repository(service))]);
        }
    }

    pub(crate) fn create(&self, service: &Service) {
        let image = format!("{}:1", self.repository(service));
        let mut args = vec!["service", "create", "--quiet", "--detach", "--name", service.name];
        let replicas = service.replicas.to_string();
        args.extend(["--restart-delay", "1s", "--replicas", &replicas]);
        if !service.is_pinned {
            args.push("--no-resolve-image");
        }
        if service.has_login {
            args.push("--with-registry-auth");
        }
        args.extend(service.options);
        args.push(&image);
        args.extend(service.command);
        if service.has_login {
            self.docker(&args)
        } else {
            self.lab.docker(&args)
        };
    }

    /// What was asked for at all fronts, and not by squall.
    pub(crate) fn asked(&self) -> Vec<(Place, Asked)> {
        let of = |(place, front): (&Place, &Front)| {
            front.asked().into_iter().map(|asked| (*place, asked)).collect::<Vec<_>>()
        };
        self.running.iter().flat_map(of).filter(|(_, asked)| !asked.agent.starts_with("squall")).collect()
    }

    pub(crate) fn forget(&self) {
        self.running.values().for_each(Front::forget);
    }

    /// Waits until nobody asks any of them any more.
    pub(crate) fn await_silence(&self) {
        let until = Instant::now() + SILENCE_MAX;
        let (mut count, mut since) = (self.asked().len(), Instant::now());
        while since.elapsed() < SILENCE {
            assert!(Instant::now() < until, "somebody goes on asking for {SILENCE_MAX:?}");
            std::thread::sleep(Duration::from_millis(100));
            let now = self.asked().len();
            if now != count {
                (count, since) = (now, Instant::now());
            }
        }
    }
}

/// How the front at a place answers.
pub(crate) fn manner(place: Place) -> Manner {
    let authentication = match place {
        Basic => Authentication::Basic,
        Bearer | Quota => Authentication::Bearer,
        BearerOfLogin => Authentication::BearerOfLogin,
        _ => Authentication::Open,
    };
    let refusal = match place {
        Abuse => Some(Refusal::Abuse),
        Unavailable => Some(Refusal::Unavailable),
        _ => None,
    };
    Manner { authentication, private: vec![PRIVATE.to_owned()], budget: (place == Quota).then_some(0), refusal }
}
