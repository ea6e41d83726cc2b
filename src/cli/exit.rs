/// How a command ended. Nagios has codes of its own for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Nothing was found.
    Calm,
    /// Storms were found.
    Storms,
    /// It could not do its work, or not all of it.
    Trouble,
    /// A Nagios plugin's own code.
    Nagios(u8),
}

impl Exit {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Calm => 0,
            Self::Storms => 1,
            Self::Trouble => 2,
            Self::Nagios(code) => code,
        }
    }
}
