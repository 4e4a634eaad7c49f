//! What a route is: everything about it in one place, from which the router, the documents and the tests are made.

use std::pin::Pin;
use std::sync::Arc;

use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use tidegate_config::Scope;

use crate::app_state::AppState;
use crate::body::Body;
use crate::problem::Problem;

/// One method on one path.
pub(crate) struct Route {
    pub method: Method,
    /// With `{rule}`, `{sha256}` and `{id}` for what is asked for; see [`Blank`].
    pub path: &'static str,
    /// Its `operationId`.
    pub id: &'static str,
    pub need: Need,
    pub effect: Effect,
    /// One sentence.
    pub about: &'static str,
    pub query: Option<SchemaOf>,
    pub recorded: Recorded,
    pub takes: Takes,
    /// The answers that are no refusal.
    pub gives: Vec<(u16, Gives)>,
    /// Codes with which it refuses, beside those that follow from the rest (`refusals.rs`).
    pub refuses: &'static [u16],
    pub condition: Condition,
    pub tagged: Tagged,
    pub answers: Answers,
    pub run: fn(Call) -> Running,
}

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Anybody: it tells whether the host lives, and how it does in numbers.
    Probe,
    /// Anybody: it is the same for every host of this version.
    Document,
    /// Who has this scope.
    Scope(Scope),
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Reads,
    /// It takes effort, and leaves nothing behind.
    Tries,
    /// It writes to the rules directory: refused with `readonly = true`.
    ChangesRules,
    /// It changes something else.
    Changes,
}

/// What of a change's query stands in the audit log: it says to what part of its subject something was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recorded {
    /// These fields; nothing else that somebody may have written into it.
    pub fields: &'static [&'static str],
    /// What is meant where none of them is there.
    pub otherwise: &'static str,
}

/// When it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// As soon as it can.
    AtOnce,
    /// When something has come, or again and again for as long as something comes.
    WhenThereIsNews,
}

/// Whether it heeds the headers by which a caller says what must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    /// `If-Match`: what is changed is still as the caller knows it.
    Match,
    /// That, and `If-None-Match: *`: it is not there yet.
    MatchOrNew,
}

/// Whether its answers have an `ETag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tagged {
    No,
    Yes,
}

/// The body it takes.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    Nothing,
    Json(SchemaOf),
    /// A JSON merge patch (RFC 7396).
    Patch,
    Wasm,
    /// NDJSON.
    Rows,
}

/// The body it answers with.
#[derive(Clone, Copy)]
pub(crate) enum Gives {
    Nothing,
    Json(SchemaOf),
    Other(&'static str),
}

pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;
pub(crate) type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;
pub(crate) type Answer = Result<Response, Problem>;

/// What may stand for a blank in a path. Nothing is ever decoded: what has a `%` in it is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blank {
    /// `{rule}`: the name of a rule.
    Rule,
    /// `{sha256}`: of a module.
    Sha256,
    /// `{id}`: of a dead letter, or a backtest.
    Id,
}

/// A request that has passed the gate.
pub(crate) struct Call {
    pub app: Arc<AppState>,
    /// What stands for the blanks, in their order; each is of its kind.
    pub blanks: Vec<String>,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Body,
    pub sees: Sees,
}

/// What may be told to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// Names, numbers and our own words.
    Names,
    /// Also what others have said, such as a database of why it lets nobody in.
    Reasons,
}

impl Route {
    fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        need: Need,
        effect: Effect,
        run: fn(Call) -> Running,
    ) -> Self {
        let (takes, gives, recorded) = (Takes::Nothing, Vec::new(), Recorded::default());
        let (about, query, answers) = ("", None, Answers::AtOnce);
        let (refuses, condition, tagged): (&[u16], _, _) = (&[], Condition::None, Tagged::No);
        Self {
            method,
            path,
            id,
            need,
            effect,
            about,
            query,
            recorded,
            takes,
            gives,
            refuses,
            condition,
            tagged,
            answers,
            run,
        }
    }

    /// It can be asked by anybody.
    pub fn open(path: &'static str, id: &'static str, need: Need, run: fn(Call) -> Running) -> Self {
        Self::new(Method::GET, path, id, need, Effect::Reads, run)
    }

    pub fn get(path: &'static str, id: &'static str, scope: Scope, run: fn(Call) -> Running) -> Self {
        Self::new(Method::GET, path, id, Need::Scope(scope), Effect::Reads, run)
    }

    /// It changes something.
    pub fn change(
        method: Method,
        path: &'static str,
        id: &'static str,
        scope: Scope,
        effect: Effect,
        run: fn(Call) -> Running,
    ) -> Self {
        Self::new(method, path, id, Need::Scope(scope), effect, run)
    }

    pub fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    pub fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(|g| T::json_schema(g)), ..self }
    }

    /// The audit log is to say which, by these fields of the query; `otherwise` without any of them.
    pub fn records(self, fields: &'static [&'static str], otherwise: &'static str) -> Self {
        Self { recorded: Recorded { fields, otherwise }, ..self }
    }

    /// It answers when there is news.
    pub fn waits(self) -> Self {
        Self { answers: Answers::WhenThereIsNews, ..self }
    }

    /// It refuses with these codes too.
    pub fn refuses(self, refuses: &'static [u16]) -> Self {
        Self { refuses, ..self }
    }

    /// It heeds `If-Match`.
    pub fn if_match(self) -> Self {
        Self { condition: Condition::Match, ..self }
    }

    /// It heeds `If-Match` and `If-None-Match: *`.
    pub fn if_match_or_new(self) -> Self {
        Self { condition: Condition::MatchOrNew, ..self }
    }

    /// Its answers have an `ETag`.
    pub fn tagged(self) -> Self {
        Self { tagged: Tagged::Yes, ..self }
    }

    pub fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }

    pub fn gives(mut self, status: u16, gives: Gives) -> Self {
        self.gives.push((status, gives));
        self
    }

    pub fn json<T: JsonSchema>(self) -> Self {
        self.gives(200, Gives::Json(of::<T>))
    }
}

/// The schema of `T`, by reference.
pub(crate) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Recorded {
    /// Whether a request asks only what it would do: where a route knows that.
    pub fn plans(self, uri: &Uri) -> bool {
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0);
        let plans = |(name, value): &(String, String)| name == "plan" && value == "true";
        self.fields.contains(&"plan") && query.unwrap_or_default().iter().any(plans)
    }

    /// Of a request.
    pub fn of(self, uri: &Uri) -> String {
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0);
        // What cannot be read is refused by its route.
        let named = query.unwrap_or_default().into_iter().filter(|(name, _)| self.fields.contains(&name.as_str()));
        let named: Vec<String> = named.map(|(name, value)| format!("{name}={value}")).collect();
        if named.is_empty() { self.otherwise.to_owned() } else { named.join(" ") }
    }
}

impl Blank {
    /// Of a segment of a [`Route::path`].
    pub fn of(segment: &str) -> Option<Self> {
        match segment {
            "{rule}" => Some(Blank::Rule),
            "{sha256}" => Some(Blank::Sha256),
            "{id}" => Some(Blank::Id),
            _ => None,
        }
    }

    /// As a regular expression.
    pub const fn pattern(self) -> &'static str {
        match self {
            Blank::Rule => "^[a-z0-9][a-z0-9-]{0,62}$",
            Blank::Sha256 => "^[0-9a-f]{64}$",
            Blank::Id => "^[0-9]{1,18}$",
        }
    }

    /// Whether `text` may stand here.
    pub fn takes(self, text: &str) -> bool {
        match self {
            Blank::Rule => text.parse::<tidegate_config::Name>().is_ok(),
            Blank::Sha256 => {
                text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            }
            Blank::Id => (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()),
        }
    }
}

impl Call {
    /// What stands for the first blank.
    pub fn name(&self) -> String {
        self.blanks.first().cloned().unwrap_or_default()
    }

    /// The query, read whole or refused.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let read = axum::extract::Query::<T>::try_from_uri(&self.uri);
        read.map(|query| query.0).map_err(|refused| Problem::bad(refused.body_text()))
    }
}
