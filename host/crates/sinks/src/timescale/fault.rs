//! What went wrong with the database, and what that means: by SQLSTATE, not by the words of a message.
//!
//! <https://www.postgresql.org/docs/15/errcodes-appendix.html>

use std::error::Error as _;
use std::time::Duration;

use tidegate_model::SinkError;

/// Something went wrong.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database or the connection says so.
    Database(tokio_postgres::Error),
    /// No answer in this time, though the connection stands.
    Silent(Duration),
    /// Somebody has to act; with what to do.
    Operator(String),
    /// It may pass.
    Passing(String),
    /// What is stored of a log went back: none of its share's messages may be stored.
    WentBack(String),
    /// A statement took longer than it may.
    Slow {
        /// What the database said.
        said: String,
        /// The most rows that it can have had.
        rows: usize,
    },
}

/// What the database says against a row, or against some of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Objection {
    /// In its words.
    pub(super) reason: String,
    /// The line of the COPY, if it names one.
    pub(super) line: Option<usize>,
    pub(super) to: To,
}

/// What an objection is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The row.
    Row,
    /// The row if others pass, else all rows, as when a trigger lets nobody write for now.
    RowIfOthersPass,
    /// The row if any ever passed, else all rows, as when the table wants what nobody gives.
    RowIfAnyPassed,
}

/// What a SQLSTATE calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Retry,
    Operator,
    /// The data is at fault.
    Data,
    /// Where other rows pass the data is at fault; where none does, it may pass.
    DataElseRetry,
    /// Where other rows pass the data is at fault; where none does, an operator is wanted.
    DataElseOperator,
    /// Where a row has ever passed the data is at fault; where none has, an operator is wanted.
    DataOfATableInUse,
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl Fault {
    /// What the database says against rows, where one or some of them are at fault, or may be.
    pub(super) fn of_data(&self) -> Option<Objection> {
        let Self::Database(error) = self else { return None };
        let said = error.as_db_error()?;
        let code = said.code().code();
        let to = match verdict(code) {
            Verdict::Data => To::Row,
            Verdict::DataElseRetry | Verdict::DataElseOperator => To::RowIfOthersPass,
            Verdict::DataOfATableInUse => To::RowIfAnyPassed,
            Verdict::Retry | Verdict::Operator => return None,
        };
        // Not the detail: it may hold the values of other rows.
        let reason = format!("{} (SQLSTATE {code})", said.message());
        Some(Objection { reason, line: said.where_().and_then(line), to })
    }

    /// Whether a statement took longer than it may, or was cancelled by somebody.
    pub(super) fn is_of_time(&self) -> bool {
        let Self::Database(error) = self else { return false };
        error.as_db_error().is_some_and(|said| said.code().code() == "57014")
    }

    /// The same fault; where a statement took too long, or waited too long for a lock, with what this means.
    pub(super) fn waiting(self, what: &str) -> Self {
        let Self::Database(error) = &self else { return self };
        match error.as_db_error() {
            Some(said) if matches!(said.code().code(), "57014" | "55P03") => {
                Self::Passing(format!("{what}: {} (SQLSTATE {})", said.message(), said.code().code()))
            }
            _ => self,
        }
    }

    /// The same fault, where it may be that a statement of so many rows for `table` took too long; `waited` as long as it may take, or not.
    pub(super) fn or_slow(self, table: &str, rows: usize, waited: bool) -> Self {
        let Self::Database(error) = &self else { return self };
        match error.as_db_error() {
            // Somebody may cancel a statement too, and then it is tried again as it is. Only the words tell which, and they are translated.
            Some(said) if waited && said.code().code() == "57014" => {
                Self::Slow { said: format!("table {table}: {} (SQLSTATE 57014)", said.message()), rows }
            }
            _ => self,
        }
    }

    /// The same fault; where a permission is missing, with all that are needed.
    pub(super) fn lacking(self, grants: &str) -> Self {
        let Self::Database(error) = &self else { return self };
        match error.as_db_error() {
            Some(said) if said.code().code() == "42501" => {
                Self::Operator(format!("{} (SQLSTATE 42501); {grants}", said.message()))
            }
            _ => self,
        }
    }

    /// Whether it says that such a row is there already.
    pub(super) fn of_repeat(&self) -> bool {
        let Self::Database(error) = self else { return false };
        error.as_db_error().is_some_and(|said| matches!(said.code().code(), "23505" | "23P01"))
    }

    /// The same fault, met in a table whose rows are not to be left out one by one: then its data want an operator.
    pub(super) fn of_table(self, table: &str) -> Self {
        match self.of_data() {
            Some(Objection { reason, to: To::Row | To::RowIfAnyPassed, .. }) => {
                Self::Operator(format!("table {table} refuses what Tidegate writes to it: {reason}"))
            }
            _ => self,
        }
    }

    /// What the pipeline is told.
    pub(super) fn into_sink_error(self, database: &str) -> SinkError {
        let error = match self {
            Self::Database(error) => error,
            Self::Silent(time) => {
                return SinkError::Retry(format!("{database} has not answered for {} s", time.as_secs()));
            }
            Self::Operator(text) => return SinkError::NeedsOperator(format!("{database}: {text}")),
            Self::Passing(text) => return SinkError::Retry(format!("{database}: {text}")),
            Self::WentBack(text) => return SinkError::WentBack(format!("{database}: {text}")),
            Self::Slow { said, .. } => return SinkError::Retry(format!("{database}: {said}")),
        };
        if distrusts(&error) {
            return SinkError::NeedsOperator(format!(
                "{database}: {}; give the certificate that signed it as ca_file, and the name it is made out to as host",
                with_causes(&error)
            ));
        }
        let Some(said) = error.as_db_error() else {
            return SinkError::Retry(format!("{database}: {}", with_causes(&error)));
        };
        let code = said.code().code();
        let text = format!("{database}: {} (SQLSTATE {code})", said.message());
        let text = match what_to_do(code) {
            Some(advice) => format!("{text}; {advice}"),
            None => text,
        };
        match verdict(code) {
            Verdict::Retry | Verdict::DataElseRetry => SinkError::Retry(text),
            // Points at fault never come this far, so it was something that no row can be blamed for.
            Verdict::Operator | Verdict::Data | Verdict::DataElseOperator | Verdict::DataOfATableInUse => {
                SinkError::NeedsOperator(text)
            }
        }
    }
}

/// Whether it is the server's certificate that TLS does not accept.
fn distrusts(error: &tokio_postgres::Error) -> bool {
    let io = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let tls = io.and_then(|io| io.get_ref()).and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

/// The error and what caused it: tokio-postgres shows only itself.
pub(super) fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(each) = cause {
        let said = each.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = each.source();
    }
    text
}

fn verdict(code: &str) -> Verdict {
    match code {
        // Our format is right for the columns that were looked up, so a table was changed under us: no row's fault.
        "22P03" | "22P04" => Verdict::Operator,
        // A standby, or a primary about to become one: the next connection may reach the right server.
        "25006" => Verdict::Retry,
        // No database, no schema.
        "3D000" | "3F000" => Verdict::Operator,
        // A row too long for an index, or for the table; the check option of a view.
        "54000" | "44000" => Verdict::Data,
        // A column without a value, a key that nobody has, a condition: of a row, or of all, where the table wants what we do not have.
        "23502" | "23503" | "23514" => Verdict::DataOfATableInUse,
        // Some rows cannot go where they belong: into a compressed chunk, say.
        "0A000" => Verdict::DataElseOperator,
        _ => match code.get(..2).unwrap_or("") {
            "22" | "23" => Verdict::Data,
            // Not allowed in; syntax, names and permissions; not supported.
            "28" | "42" | "0A" => Verdict::Operator,
            // Connection, transaction, a pooler's lost statement, rollback, resources, object in use, shutdown and cancel, the server's disk, its files,
            // its bugs.
            "08" | "25" | "26" | "40" | "53" | "55" | "57" | "58" | "F0" | "XX" => Verdict::Retry,
            // What a trigger or a function raises, with PL/pgSQL's code or one of its own.
            _ => Verdict::DataElseRetry,
        },
    }
}

fn what_to_do(code: &str) -> Option<&'static str> {
    Some(match code {
        "42P01" => "make the table with `tidegate migrate` or deploy/sql, or set manage_schema = true",
        "42501" => "grant it to this user",
        "0A000" => {
            "no row passes: an older TimescaleDB takes no rows into compressed chunks of a table with a unique index (2.11 does): decompress \
             them, or upgrade it"
        }
        "23502" | "23503" | "23514" => "no row has ever passed: look at what the table wants of each row",
        "42703" | "42804" | "22P03" | "22P04" => {
            "the table is not of the shape in deploy/sql: change it, or name another"
        }
        "3D000" => "create the database, or name another in the URL",
        "3F000" => "create the schema, or name another before the table",
        "28P01" => "check the user's password",
        "28000" => "check the user, pg_hba.conf, and whether the server wants sslmode=require",
        _ if verdict(code) == Verdict::DataElseRetry => "no row passes: look at the triggers of the table",
        _ => return None,
    })
}

/// The line in `COPY metrics, line 17, column value`: rows are counted from 1, also in the binary format. A server that speaks
/// another language than English says it otherwise; then it has to be searched for.
fn line(context: &str) -> Option<usize> {
    let digits = context.split(", line ").nth(1)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: which SQLSTATE is whose fault.
    #[test]
    fn verdicts() {
        for code in ["08006", "57P01", "57014", "53100", "53300", "40001", "40P01", "25006", "XX000", "55P03"] {
            assert_eq!(verdict(code), Verdict::Retry, "{code}");
        }
        for code in ["42P01", "42501", "42703", "3D000", "3F000", "28P01", "28000", "22P03"] {
            assert_eq!(verdict(code), Verdict::Operator, "{code}");
        }
        for code in ["22001", "22003", "22021", "23505", "44000", "54000"] {
            assert_eq!(verdict(code), Verdict::Data, "{code}");
        }
        for code in ["P0001", "45000", "UE001", "21000", "38001"] {
            assert_eq!(verdict(code), Verdict::DataElseRetry, "{code}");
        }
        for code in ["23502", "23503", "23514"] {
            assert_eq!(verdict(code), Verdict::DataOfATableInUse, "{code}");
        }
        assert_eq!(verdict("0A000"), Verdict::DataElseOperator);
    }

    /// Guarantees: the line is found where it is named, and nothing is made of other words.
    #[test]
    fn lines() {
        assert_eq!(line("COPY metrics, line 17"), Some(17));
        assert_eq!(line("COPY metrics, line 3, column value"), Some(3));
        assert_eq!(line("COPY metrics, Zeile 3"), None);
        assert_eq!(line("SQL statement"), None);
    }
}
