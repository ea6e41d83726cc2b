use rusqlite::ErrorCode;

/// What an error of SQLite's asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The file is damaged: it is set aside.
    Damage,
    /// This entry cannot be stored, another one could: it is dropped.
    Entry,
    /// Anything else, such as a full disk or a lock that is not given back: tried again later.
    Disk,
}

impl Trouble {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damage,
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => Self::Entry,
            Some(_) => Self::Disk,
            // Not SQLite's: a value that does not convert.
            None => Self::Entry,
        }
    }
}

/// SQLite's result as a report wants it: "database or disk is full", not "Error code 13: Insertion failed because ...".
pub(super) fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => {
            text.clone().unwrap_or_else(|| rusqlite::ffi::code_to_str(code.extended_code).to_owned())
        }
        other => other.to_string(),
    }
}
