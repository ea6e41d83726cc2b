/// Nagios' code for a plugin that could not find out.
pub(super) const NAGIOS_UNKNOWN: u8 = 3;

/// How a command ended. Nagios has codes of its own for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Nothing was found.
    Calm,
    /// Storms were found.
    Storms,
    /// The daemon that was asked does not see what it should.
    Unwell,
    /// It could not do its work, or not all of it.
    Trouble,
    /// A Nagios plugin's own code.
    Nagios(u8),
}

impl Exit {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Calm => 0,
            Self::Storms | Self::Unwell => 1,
            Self::Trouble => 2,
            Self::Nagios(code) => code,
        }
    }

    /// The same where not all of the work could be done. For Nagios what was found goes before what could not be.
    pub(super) const fn despite(self, trouble: bool) -> Self {
        match self {
            Self::Nagios(0) if trouble => Self::Nagios(NAGIOS_UNKNOWN),
            Self::Calm | Self::Storms if trouble => Self::Trouble,
            exit => exit,
        }
    }
}
