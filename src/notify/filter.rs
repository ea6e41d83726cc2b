use crate::model::Labels;
use crate::model::{Cause, Severity, matches_pattern};

/// Which storms a silence or a receiver is about. Empty, it is about all; what is named has to fit, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Names of services; `*` stands for any text. One has to fit.
    pub services: Vec<String>,
    /// Labels `squall.*` with their values. All have to be there.
    pub labels: Vec<(String, String)>,
    /// Causes. One has to fit.
    pub causes: Vec<Cause>,
    /// The least severity.
    pub severity_min: Option<Severity>,
}

impl Filter {
    /// Whether it is about this storm.
    pub fn fits(&self, name: &str, labels: &Labels, cause: Cause) -> bool {
        let fits_label = |(key, value): &(String, String)| labels.get(key).is_some_and(|found| found == value);
        (self.services.is_empty() || self.services.iter().any(|pattern| matches_pattern(pattern, name)))
            && self.labels.iter().all(fits_label)
            && (self.causes.is_empty() || self.causes.contains(&cause))
    }

    /// Whether it is about all storms.
    pub const fn is_about_all(&self) -> bool {
        self.services.is_empty() && self.labels.is_empty() && self.causes.is_empty()
    }
}
