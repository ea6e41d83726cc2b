use std::fmt;

/// Where something is written: the file's place in the list of files, line and column, both from 1, the column in
/// characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A value, and where it is written.
#[derive(Clone, Debug)]
pub(super) struct Written<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// What is wrong, or odd, at a place of a file; shown as `file:line:column: message`, which editors jump to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// A sentence.
    pub message: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Why a stack was not judged. Nothing is judged in part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LintError {
    /// A file could not be read.
    #[error("{file}: {why}")]
    Unreadable {
        /// The file, as it was named.
        file: String,
        /// Why.
        why: String,
    },
    /// A file is no stack that could be deployed.
    #[error("{0}")]
    Mistake(Remark),
    /// There are more files than [`super::FILES_MAX`].
    #[error("more than {0} files, those of `extends` with them")]
    TooManyFiles(usize),
}
