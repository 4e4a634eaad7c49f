//! Every route there is, in one table: the router, the OpenAPI document, the page and the tests are made from it, so that a new
//! route cannot be forgotten by any of them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::Method;
use tidegate_config::Scope;
use tidegate_pipeline::{LaneTotals, SinkTotals, SourceStatus, Standing};

use crate::backtest::{Backtest, BacktestInput};
use crate::health;
use crate::metrics;
use crate::route::{Blank, Effect, Gives, Need, Route, Takes, of};
use crate::routes::{
    alerts, backtests, desired, documents, letters, modules, rules, shadow, state, tail, trace, trial,
};
use crate::rules::{ManifestShape, Signature};
use crate::shapes::{
    AlertQuery, AnyJson, AuditPage, AuditQuery, ConvergeQuery, Converged, Counted, Definition, Document, ExportQuery,
    Ledger, LetterPage, LetterQuery, Module, ModulePart, Modules, OneSpool, PastAlerts, PastQuery, PromoteInput,
    PruneQuery, Pruned, PurgeQuery, ResetQuery, RollbackInput, RuleShape, Series, SeriesQuery, ShadowInput,
    ShadowShape, StateReset, TailQuery, TraceNext, TraceOutput, TrialInput, TrialMessage, TrialOutput, UploadQuery,
    Versions,
};
use crate::sse;
use crate::status::Status;

/// What says which dead letters are replayed or purged.
const WHICH_LETTERS: &[&str] =
    &["id", "rule", "source", "stage", "topic", "since_us", "until_us", "reason", "requested", "all"];

/// What a router finds.
pub(crate) enum Found {
    /// The route, and what stands for its blanks.
    Route(Arc<Route>, Vec<String>),
    /// The path, under other methods.
    Methods(String),
    Nothing,
}

/// Some of the routes, to be found by method and path.
pub(crate) struct Table {
    /// Those of paths without blanks, which most requests are for.
    plain: HashMap<&'static str, Vec<Arc<Route>>>,
    /// The others.
    with_blanks: Vec<Arc<Route>>,
}

impl Table {
    /// Those that `keep` keeps.
    pub fn of(keep: impl Fn(&Route) -> bool) -> Self {
        let mut table = Self { plain: HashMap::new(), with_blanks: Vec::new() };
        for route in routes().into_iter().filter(|route| keep(route)).map(Arc::new) {
            let blank = route.path.split('/').any(|segment| Blank::of(segment).is_some());
            let those = if blank { &mut table.with_blanks } else { table.plain.entry(route.path).or_default() };
            those.push(route);
        }
        table
    }

    /// The route for a request. Paths are compared as they are written: no decoding, no `..`, no slash at the end.
    pub fn find(&self, method: &Method, path: &str) -> Found {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        if let Some(plain) = self.plain.get(path) {
            let asked = plain.iter().find(|route| route.method == *method);
            return asked.map_or_else(|| others(plain), |route| Found::Route(route.clone(), Vec::new()));
        }
        let mut there = Vec::new();
        for route in &self.with_blanks {
            match blanks(route.path, path) {
                Some(blanks) if route.method == *method => return Found::Route(route.clone(), blanks),
                Some(_) => there.push(route.clone()),
                None => {}
            }
        }
        if there.is_empty() { Found::Nothing } else { others(&there) }
    }
}

/// The methods under which a path is there.
fn others(there: &[Arc<Route>]) -> Found {
    let mut methods: Vec<&str> = there.iter().map(|route| route.method.as_str()).collect();
    methods.dedup();
    Found::Methods(methods.join(", "))
}

/// What stands for the blanks of `pattern` in `path`, if it is of that form.
fn blanks(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut found = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(wanted), Some(given)) => match Blank::of(wanted) {
                Some(blank) if blank.takes(given) => found.push(given.to_owned()),
                None if wanted == given => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

/// All of them.
#[rustfmt::skip]
pub(crate) fn routes() -> Vec<Route> {
    use Scope::{Admin, Data, Read, Rules};
    let change = |method, path, id, run| Route::change(method, path, id, Rules, Effect::ChangesRules, run);
    vec![
        Route::open("/livez", "live", Need::Probe, |call| Box::pin(health::live(call)))
            .about("Whether the process does its work; if not, restart it.").json::<health::Health>().gives(503, Gives::Json(of::<health::Health>)),
        Route::open("/readyz", "ready", Need::Probe, |call| Box::pin(health::ready(call)))
            .about("Whether messages flow from end to end.").json::<health::Health>().gives(503, Gives::Json(of::<health::Health>)),
        Route::open("/health", "health", Need::Probe, |call| Box::pin(health::health(call)))
            .about("Ready, and every rule as its author meant it.").json::<health::Health>().gives(503, Gives::Json(of::<health::Health>)),
        Route::open("/metrics", "metrics", Need::Probe, |call| Box::pin(metrics::metrics(call)))
            .about("All counters, in the OpenMetrics text format.").gives(200, Gives::Other(metrics::TYPE)),

        Route::open("/api/v1", "page", Need::Document, |call| Box::pin(documents::page(call)))
            .about("This API as a page.").gives(200, Gives::Other("text/html; charset=utf-8")),
        Route::open("/api/v1/openapi.json", "openapi", Need::Document, |call| Box::pin(documents::openapi(call)))
            .about("This API as an OpenAPI 3.1 document.").json::<AnyJson>(),

        Route::get("/api/v1/status", "status", Read, |call| Box::pin(state::status(call)))
            .about("The whole state of the host: ledger, sources, sinks, lanes, rules, standing alerts.").json::<Status>(),
        Route::get("/api/v1/ledger", "ledger", Read, |call| Box::pin(state::ledger(call)))
            .about("How all messages and points ended: whether anything was lost.").json::<Ledger>(),
        Route::get("/api/v1/sources", "sources", Read, |call| Box::pin(state::sources(call)))
            .about("Where messages come from.").json::<Vec<SourceStatus>>(),
        Route::get("/api/v1/sinks", "sinks", Read, |call| Box::pin(state::sinks(call)))
            .about("Where points and alerts go, and the spools before them.").json::<Vec<SinkTotals>>(),
        Route::get("/api/v1/spools", "spools", Read, |call| Box::pin(state::spools(call)))
            .about("What waits on disk for sinks that are away.").json::<Vec<OneSpool>>(),
        Route::get("/api/v1/lanes", "lanes", Read, |call| Box::pin(state::lanes(call)))
            .about("The threads that run rules.").json::<Vec<LaneTotals>>(),
        Route::get("/api/v1/alerts", "alerts", Read, |call| Box::pin(alerts::standing(call)))
            .about("The alerts that stand, the oldest first.").query::<AlertQuery>().json::<Vec<Standing>>(),
        Route::get("/api/v1/alerts/history", "alertHistory", Read, |call| Box::pin(alerts::past(call)))
            .about("The alerts that were published last, the newest first.").query::<PastQuery>().json::<PastAlerts>(),
        Route::get("/api/v1/series", "series", Read, |call| Box::pin(state::series(call)))
            .about("The series known, by topic filter.").query::<SeriesQuery>().json::<Series>(),

        Route::get("/api/v1/tail", "tail", Data, |call| Box::pin(tail::tail(call)))
            .about("Messages, points and alerts as they pass, as server-sent events: a sample where there are too many.")
            .query::<TailQuery>().gives(200, Gives::Other(sse::TYPE)).waits(),
        Route::change(Method::POST, "/api/v1/trace", "trace", Data, Effect::Tries, |call| Box::pin(trace::given(call)))
            .about("A message through every rule that serves: what went into each and came out of it. Nothing is done.")
            .takes(Takes::Json(of::<TrialMessage>)).json::<TraceOutput>(),
        Route::change(Method::POST, "/api/v1/trace/next", "traceNext", Data, Effect::Tries, |call| Box::pin(trace::next(call)))
            .about("The same with the next message that passes, once there is one.").waits()
            .takes(Takes::Json(of::<TraceNext>)).json::<TraceOutput>().refuses(&[404]),

        Route::get("/api/v1/rules", "listRules", Read, |call| Box::pin(rules::list(call)))
            .about("All rules, by name.").json::<Vec<RuleShape>>(),
        Route::get("/api/v1/rules/{rule}", "getRule", Read, |call| Box::pin(rules::get(call)))
            .about("A rule: how it is, and its file. The ETag is that of the file, and of the module it names.").json::<RuleShape>().tagged(),
        change(Method::PUT, "/api/v1/rules/{rule}", "putRule", |call| Box::pin(rules::put(call)))
            .about("Makes a rule, or makes it anew: tried first, then written, then serving when this answers; or nothing has changed.")
            .takes(Takes::Json(of::<Definition>)).json::<RuleShape>().gives(201, Gives::Json(of::<RuleShape>)).if_match_or_new().tagged(),
        change(Method::PATCH, "/api/v1/rules/{rule}", "patchRule", |call| Box::pin(rules::patch(call)))
            .about("Changes parts of a rule: its order, limits, topics, configuration. What is null is set back to its default.")
            .takes(Takes::Patch).json::<RuleShape>().if_match().tagged(),
        change(Method::DELETE, "/api/v1/rules/{rule}", "deleteRule", |call| Box::pin(rules::delete(call)))
            .about("Takes a rule away; what it raised is cleared, its module stays.").gives(204, Gives::Nothing).if_match(),
        change(Method::POST, "/api/v1/rules/{rule}/enable", "enableRule", |call| Box::pin(rules::enable(call)))
            .about("Answers when the rule serves, or with why it cannot.").json::<RuleShape>().if_match().tagged().refuses(&[422]),
        change(Method::POST, "/api/v1/rules/{rule}/disable", "disableRule", |call| Box::pin(rules::disable(call)))
            .about("Answers when no lane calls the rule any more.").json::<RuleShape>().if_match().tagged(),
        Route::change(Method::POST, "/api/v1/rules/{rule}/retry", "retryRule", Rules, Effect::Changes, |call| Box::pin(rules::retry(call)))
            .about("Lets a rule out of quarantine. Its file stays as it is.").json::<RuleShape>().if_match().tagged().refuses(&[409]),
        Route::change(Method::POST, "/api/v1/rules/{rule}/reset-state", "resetState", Rules, Effect::Changes, |call| Box::pin(rules::reset_state(call)))
            .about("Lets a rule forget all its state, or that of one series or partition, and clears the alerts that came of it. Its file stays as it is.")
            .query::<ResetQuery>().records(&["series", "partition"], "all").json::<StateReset>().if_match().refuses(&[409]),
        Route::get("/api/v1/rules/{rule}/versions", "listVersions", Read, |call| Box::pin(rules::versions(call)))
            .about("The generations of a rule that it can go back to, the newest first: the last ten that served.").json::<Versions>(),
        change(Method::POST, "/api/v1/rules/{rule}/rollback", "rollbackRule", |call| Box::pin(rules::rollback(call)))
            .about("Goes back to the generation before, or to the one named: its file and module are put back as they were, and it serves when this answers.")
            .takes(Takes::Json(of::<RollbackInput>)).json::<RuleShape>().if_match().tagged(),
        Route::get("/api/v1/rules/{rule}/shadow", "getShadow", Read, |call| Box::pin(shadow::get(call)))
            .about("How the shadow of a rule is, and how much it does otherwise than the rule.").json::<ShadowShape>(),
        Route::get("/api/v1/rules/{rule}/shadow/differences", "getShadowDifferences", Data, |call| Box::pin(shadow::differences(call)))
            .about("The same with the newest rows and alerts in which they differ: it takes the scope of those who may see values.").json::<ShadowShape>(),
        Route::change(Method::POST, "/api/v1/rules/{rule}/shadow", "startShadow", Rules, Effect::Changes, |call| Box::pin(shadow::start(call)))
            .about("Runs a candidate beside a rule, on the same batches and without effects, in the place of the shadow it has.")
            .takes(Takes::Json(of::<ShadowInput>)).json::<ShadowShape>().if_match().refuses(&[409, 507]),
        Route::change(Method::DELETE, "/api/v1/rules/{rule}/shadow", "stopShadow", Rules, Effect::Changes, |call| Box::pin(shadow::stop(call)))
            .about("Lets the shadow of a rule go.").gives(204, Gives::Nothing).if_match().refuses(&[409]),
        change(Method::POST, "/api/v1/rules/{rule}/shadow/promote", "promoteShadow", |call| Box::pin(shadow::promote(call)))
            .about("Lets the shadow serve, with the state it has built or that of the rule: its file is written, and it serves when this answers.")
            .takes(Takes::Json(of::<PromoteInput>)).json::<RuleShape>().if_match().tagged(),
        Route::change(Method::POST, "/api/v1/rules/{rule}/test", "testRule", Rules, Effect::Tries, |call| Box::pin(trial::existing(call)))
            .about("Gives a rule messages or points, and shows all it would do. Nothing is done.")
            .takes(Takes::Json(of::<TrialInput>)).json::<TrialOutput>().refuses(&[409]),
        Route::change(Method::POST, "/api/v1/test", "testDefinition", Rules, Effect::Tries, |call| Box::pin(trial::defined(call)))
            .about("The same with a rule that is not there yet: `definition` says what it is.")
            .takes(Takes::Json(of::<TrialInput>)).json::<TrialOutput>().refuses(&[409]),

        Route::change(Method::POST, "/api/v1/backtests", "startBacktest", Rules, Effect::Tries, |call| Box::pin(backtests::ask(call)))
            .about("Has a rule, or a candidate, run over what was stored, a part of a Kafka topic, or what is uploaded, beside the lanes. Nothing is done.")
            .takes(Takes::Json(of::<BacktestInput>)).gives(201, Gives::Json(of::<Backtest>)).refuses(&[404, 409]),
        Route::get("/api/v1/backtests", "listBacktests", Read, |call| Box::pin(backtests::list(call)))
            .about("All backtests, the newest first, without what may tell of its rows: lists and reasons. Those that are over are kept for an hour.").json::<Vec<Backtest>>(),
        Route::get("/api/v1/backtests/{id}", "getBacktest", Data, |call| Box::pin(backtests::get(call)))
            .about("How far a backtest is, and what it has found: of the rows as well, so that it takes the scope of those who may see them.").json::<Backtest>(),
        Route::get("/api/v1/backtests/{id}/events", "followBacktest", Read, |call| Box::pin(backtests::events(call)))
            .about("How far a backtest is, as server-sent events `progress` until it is `over`: its numbers, without what may tell of its rows.")
            .gives(200, Gives::Other(sse::TYPE)).waits(),
        Route::change(Method::PUT, "/api/v1/backtests/{id}/rows", "uploadRows", Rules, Effect::Tries, |call| Box::pin(backtests::rows(call)))
            .about("The rows of a backtest that waits for them, one JSON object a line; they are read as they come.")
            .takes(Takes::Rows).json::<Backtest>().refuses(&[409]),
        Route::change(Method::DELETE, "/api/v1/backtests/{id}", "cancelBacktest", Rules, Effect::Tries, |call| Box::pin(backtests::cancel(call)))
            .about("Ends a backtest; forgets one that is over.").gives(204, Gives::Nothing),

        Route::get("/api/v1/export", "export", Rules, |call| Box::pin(desired::export(call)))
            .about("All rules and the modules they use as one document, and the configuration without its secrets. The ETag is that of all rules.")
            .query::<ExportQuery>().json::<Document>().tagged().refuses(&[409]),
        change(Method::POST, "/api/v1/import", "import", |call| Box::pin(desired::import(call)))
            .about("Takes the rules and modules of a document in, all or none; other rules stay.")
            .query::<ConvergeQuery>().records(&["plan"], "").takes(Takes::Json(of::<Document>)).json::<Converged>().if_match().tagged(),
        change(Method::PUT, "/api/v1/desired", "putDesired", |call| Box::pin(desired::desired(call)))
            .about("Brings all rules in line with a document, all or none: others go. Answers in what the host differed. A rule that has another name and the same module takes the place of the old one between two batches; where the module is another too, the old one goes before the new one comes, and rows may pass by between them: change the module first, and then the name.")
            .query::<ConvergeQuery>().records(&["plan"], "").takes(Takes::Json(of::<Document>)).json::<Converged>().if_match().tagged(),

        Route::get("/api/v1/modules", "listModules", Read, |call| Box::pin(modules::list(call)))
            .about("All modules in the rules directory.").json::<Modules>().refuses(&[409]),
        change(Method::POST, "/api/v1/modules", "uploadModule", |call| Box::pin(modules::upload(call)))
            .about("Takes a module in, once it has been found fit to serve. It runs when a rule names its file.")
            .query::<UploadQuery>().takes(Takes::Wasm).json::<Module>().gives(201, Gives::Json(of::<Module>)),
        Route::get("/api/v1/modules/{sha256}", "getModule", Read, |call| Box::pin(modules::get(call)))
            .about("A module, and what it says of itself.").json::<Module>().refuses(&[409]),
        Route::get("/api/v1/modules/{sha256}/content", "getModuleContent", Rules, |call| Box::pin(modules::content(call)))
            .about("Its bytes.").gives(200, Gives::Other("application/wasm")).refuses(&[409]),
        change(Method::PUT, "/api/v1/modules/{sha256}/signature", "putModuleSignature", |call| Box::pin(modules::vouch(call)))
            .about("Says who vouches for a module: before it is uploaded, where signatures are required, or anew at any time.")
            .takes(Takes::Json(of::<ManifestShape>)).json::<Signature>().gives(201, Gives::Json(of::<Signature>)),
        Route::change(Method::POST, "/api/v1/modules/trial", "tryModule", Rules, Effect::Tries, |call| Box::pin(modules::on_trial(call)))
            .about("Takes a module in to be tried: `test`, `backtests` and shadows can name its file for 15 minutes. It is written nowhere.")
            .query::<UploadQuery>().takes(Takes::Json(of::<ModulePart>)).json::<Module>().refuses(&[409]),
        change(Method::POST, "/api/v1/modules/prune", "pruneModules", |call| Box::pin(modules::prune(call)))
            .about("Deletes uploaded modules that nothing needs: no rule and no shadow uses them, and no generation that is kept.")
            .query::<PruneQuery>().records(&["older_than_s", "keep", "plan"], "").json::<Pruned>(),
        change(Method::DELETE, "/api/v1/modules/{sha256}", "deleteModule", |call| Box::pin(modules::delete(call)))
            .about("Deletes a module that no rule uses.").gives(204, Gives::Nothing),

        Route::get("/api/v1/dead-letters", "listDeadLetters", Data, |call| Box::pin(letters::list(call)))
            .about("Messages that could not be used, whole.").query::<LetterQuery>().json::<LetterPage>(),
        Route::get("/api/v1/dead-letters/{id}", "getDeadLetter", Data, |call| Box::pin(letters::get(call)))
            .about("One of them.").json::<AnyJson>(),
        Route::change(Method::POST, "/api/v1/dead-letters/replay", "replayDeadLetters", Data, Effect::Changes, |call| Box::pin(letters::replay(call)))
            .about("Puts all that match back among the messages.").query::<PurgeQuery>().records(WHICH_LETTERS, "").json::<Counted>(),
        Route::change(Method::POST, "/api/v1/dead-letters/cancel-replay", "cancelReplay", Data, Effect::Changes, |call| Box::pin(letters::cancel_replay(call)))
            .about("Takes that back for all that match and have not been put back yet.").query::<PurgeQuery>().records(WHICH_LETTERS, "").json::<Counted>(),
        Route::change(Method::POST, "/api/v1/dead-letters/compact", "compactDeadLetters", Data, Effect::Changes, |call| Box::pin(letters::compact(call)))
            .about("Gives the room of those that are gone back to the disk. What is left is written anew, and the sink of dead letters, with all that waits for it, waits until that is done. 507 where there is not room for twice what is left, half of it where temporary files are.").gives(204, Gives::Nothing).refuses(&[507]),
        Route::change(Method::POST, "/api/v1/dead-letters/purge", "purgeDeadLetters", Data, Effect::Changes, |call| Box::pin(letters::purge(call)))
            .about("Deletes all that match, for good.").query::<PurgeQuery>().records(WHICH_LETTERS, "").json::<Counted>(),

        Route::get("/api/v1/audit", "audit", Admin, |call| Box::pin(documents::audit(call)))
            .about("Who changed what, or was refused: the newest lines of the audit log that agree with all that is given.").query::<AuditQuery>().json::<AuditPage>(),
    ]
}
