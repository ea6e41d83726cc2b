//! The tables, and how an older file gets them.
//!
//! Times are nanoseconds since 1970. A subject's words are kept once: rows of attempts by the minute are the bulk of the
//! file, and a number for the subject makes them a quarter of their size.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// `squl`: tells the file from another program's.
pub(super) const APPLICATION_ID: i32 = 0x7371_756c;

/// What takes a file from each version to the next; the first takes an empty file to version 1.
const MIGRATIONS: [&str; 2] = [
    "
CREATE TABLE subjects (
    key INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    stack TEXT,
    seen INTEGER NOT NULL,
    UNIQUE (kind, id)
) STRICT;
-- Episodes count from 1 in each process, so an id comes again: its newest run is the one that counts.
CREATE TABLE storms (
    run INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    subject INTEGER NOT NULL,
    cause TEXT NOT NULL,
    causes TEXT NOT NULL,
    detail TEXT NOT NULL,
    onset INTEGER NOT NULL,
    detected INTEGER NOT NULL,
    ended INTEGER,
    detected_after_failures INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    attempts_per_min REAL NOT NULL,
    image TEXT NOT NULL,
    registry TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    pulls INTEGER NOT NULL,
    nodes TEXT NOT NULL,
    advice TEXT NOT NULL
) STRICT;
CREATE INDEX storms_by_id ON storms (id);
CREATE INDEX storms_by_subject ON storms (subject);
CREATE INDEX storms_by_end ON storms (ended);
CREATE TABLE decisions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    storm TEXT NOT NULL,
    cause TEXT NOT NULL,
    failed INTEGER NOT NULL,
    author TEXT NOT NULL,
    action TEXT NOT NULL,
    response TEXT NOT NULL,
    instead_of TEXT,
    refusal TEXT,
    settled INTEGER,
    outcome TEXT,
    settlement TEXT
) STRICT;
CREATE INDEX decisions_by_time ON decisions (at);
CREATE INDEX decisions_unsettled ON decisions (at) WHERE refusal IS NULL AND settled IS NULL;
CREATE INDEX decisions_settled ON decisions (settled) WHERE settled IS NOT NULL;
CREATE TABLE evidence (
    decision INTEGER NOT NULL,
    place INTEGER NOT NULL,
    task TEXT NOT NULL,
    slot INTEGER NOT NULL,
    node TEXT NOT NULL,
    created INTEGER NOT NULL,
    state TEXT NOT NULL,
    exit_code INTEGER,
    error TEXT NOT NULL,
    PRIMARY KEY (decision, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE let_goes (
    key INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    storm TEXT NOT NULL,
    template TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT;
CREATE INDEX let_goes_by_time ON let_goes (at);
CREATE TABLE holds (
    subject INTEGER PRIMARY KEY,
    mark TEXT NOT NULL
) STRICT;
CREATE TABLE gaps (
    key INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    began INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    why TEXT NOT NULL,
    UNIQUE (origin, began)
) STRICT;
CREATE INDEX gaps_by_end ON gaps (ended);
CREATE TABLE attempts (
    minute INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (minute, subject)
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE spends (
    minute INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    registry TEXT NOT NULL,
    node TEXT NOT NULL,
    deployed INTEGER NOT NULL,
    pulls INTEGER NOT NULL,
    checks INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    manifest_heads INTEGER NOT NULL,
    manifest_gets INTEGER NOT NULL,
    blobs INTEGER NOT NULL,
    measured INTEGER NOT NULL,
    derived INTEGER NOT NULL,
    assumed INTEGER NOT NULL,
    PRIMARY KEY (minute, subject, registry, node, deployed)
) STRICT, WITHOUT ROWID;
CREATE TABLE readings (
    at INTEGER NOT NULL,
    registry TEXT NOT NULL,
    reading TEXT NOT NULL,
    PRIMARY KEY (at, registry)
) STRICT, WITHOUT ROWID;
",
];

/// What a file says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing yet.
    Empty,
    /// This version's tables, or those of an earlier one.
    Known,
    /// The tables of a later version.
    Newer(i64),
    /// Another program's.
    Foreign,
}

/// The version that this squall writes.
pub(super) fn version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Whether a file that is read as it is has the tables of the second version.
pub(super) fn has_spends(connection: &Connection) -> rusqlite::Result<bool> {
    connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map(|version| version >= 2)
}

pub(super) fn kind(connection: &Connection) -> rusqlite::Result<Kind> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = number("user_version")?;
    let is_ours = number("application_id")? == i64::from(APPLICATION_ID);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (is_ours, found) {
        (false, 0) if tables == 0 => Kind::Empty,
        (true, found) if found > version() => Kind::Newer(found),
        (true, _) => Kind::Known,
        (false, _) => Kind::Foreign,
    })
}

/// Brings the tables up to date, all in one transaction: a death in between leaves what was there.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    migrate_by(connection, &MIGRATIONS)
}

fn migrate_by(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let version = |connection: &Connection| {
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok::<usize, rusqlite::Error>(usize::try_from(found).unwrap_or(0))
    };
    if version(connection)? >= migrations.len() {
        return Ok(());
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    // Read again: the lock may have been waited for while another process did the same.
    for step in migrations.iter().skip(version(&transaction)?) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(migrations.len()).unwrap_or(i64::MAX))?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_gets_only_what_it_lacks() {
        let mut connection = Connection::open_in_memory().expect("a database");
        let steps = ["CREATE TABLE a (x); INSERT INTO a VALUES (1);", "ALTER TABLE a ADD COLUMN y DEFAULT 2;"];
        migrate_by(&mut connection, &steps[..1]).expect("version 1");
        migrate_by(&mut connection, &steps).expect("version 2");
        migrate_by(&mut connection, &steps).expect("nothing to do");
        let row: (i64, i64) =
            connection.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?))).expect("a row");
        assert_eq!(row, (1, 2));
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_that_was_there() {
        let mut connection = Connection::open_in_memory().expect("a database");
        let steps = ["CREATE TABLE a (x);", "CREATE TABLE b (x); CREATE TABLE a (x);"];
        migrate_by(&mut connection, &steps[..1]).expect("version 1");
        assert!(migrate_by(&mut connection, &steps).is_err());
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("a count");
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
        assert_eq!((tables, version), (1, 1));
    }

    #[test]
    fn a_file_says_what_it_is() {
        let check = |sql: &str, expected: Kind| {
            let connection = Connection::open_in_memory().expect("a database");
            connection.execute_batch(sql).expect("sql");
            assert_eq!(kind(&connection).expect("a kind"), expected, "{sql}");
        };
        check("", Kind::Empty);
        check("CREATE TABLE a (x)", Kind::Foreign);
        check("PRAGMA user_version = 1", Kind::Foreign);
        check(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1"), Kind::Known);
        check(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 7"), Kind::Newer(7));
    }
}
