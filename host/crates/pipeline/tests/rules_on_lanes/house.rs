//! The pipeline that the tests feed, and what watches it.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::*;

/// Keeps every delivery; refuses to write while told so.
#[derive(Clone, Default)]
pub struct Keeper {
    pub kept: Arc<Mutex<Vec<Arc<Delivery>>>>,
    pub down: Arc<Mutex<bool>>,
    letters: bool,
}

#[async_trait]
impl Sink for Keeper {
    fn wants(&self) -> Wants {
        if self.letters {
            Wants { dead_letters: true, ..Wants::default() }
        } else {
            Wants { points: true, alerts: true, commands: true, ..Wants::default() }
        }
    }

    async fn write(&mut self, deliveries: &[Arc<Delivery>]) -> Result<Written, SinkError> {
        if *self.down.lock().unwrap() {
            return Err(SinkError::Retry("told to be down".into()));
        }
        self.kept.lock().unwrap().extend(deliveries.iter().cloned());
        Ok(Written::default())
    }
}

pub struct House {
    pub runtime: Runtime,
    pub pipeline: Pipeline,
    pub deploy: LaneDeploy,
    pub books: Arc<Books>,
    pub points: Keeper,
    pub letters: Keeper,
    pub inlet: Inlet,
    pub gate: Arc<Gate>,
    generation: u64,
}

/// The time, which one lane's thread is not told while the gate is closed for it: it is held then, as by a sink, between two batches.
#[derive(Debug, Default)]
pub struct Gate {
    closed_for: Mutex<Option<&'static str>>,
    opened: Condvar,
    back_us: AtomicI64,
}

impl Gate {
    pub fn close_for(&self, thread: &'static str) {
        *self.closed_for.lock().unwrap() = Some(thread);
    }

    /// Sets the time back.
    pub fn set_back(&self, by: Duration) {
        self.back_us.fetch_add(by.as_micros() as i64, Relaxed);
    }

    pub fn open(&self) {
        *self.closed_for.lock().unwrap() = None;
        self.opened.notify_all();
    }
}

impl Clock for Gate {
    fn now_us(&self) -> i64 {
        let thread = std::thread::current();
        let held = |closed: &mut Option<&str>| closed.is_some() && *closed == thread.name();
        drop(self.opened.wait_while(self.closed_for.lock().unwrap(), |closed| held(closed)).unwrap());
        SystemClock.now_us() - self.back_us.load(Relaxed)
    }
}

impl House {
    pub fn new(lanes: usize) -> Self {
        Self::with(lanes, Arc::new(Books::new(10_000)), None)
    }

    pub fn with(lanes: usize, books: Arc<Books>, state: Option<Arc<dyn StateStore>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gate = Arc::<Gate>::default();
        let (points, letters) = (Keeper::default(), Keeper { letters: true, ..Keeper::default() });
        let settings = PipelineSettings {
            lanes,
            batch_rows: 1_000,
            parcel: ParcelLimits::default(),
            books: books.clone(),
            clock: gate.clone(),
            state,
        };
        let sinks = vec![SinkSetup::new("keeper", Box::new(points.clone()))];
        let pipeline = Pipeline::start(settings, sinks, Box::new(letters.clone()), runtime.handle()).unwrap();
        let (deploy, inlet) = (pipeline.deploy(), pipeline.inlet("test"));
        Self { runtime, pipeline, deploy, books, points, letters, inlet, gate, generation: 0 }
    }

    pub fn install(&mut self, name: &str, module: &str, order: i32, topic: &str, config: &str) {
        self.install_so(name, module, order, topic, config, |_| {});
    }

    /// `module` is as [`module`] finds it. `change` has the last word on the rule.
    pub fn install_so(
        &mut self,
        name: &str,
        module: &str,
        order: i32,
        topic: &str,
        config: &str,
        change: impl FnOnce(&mut Rule),
    ) -> Arc<Rule> {
        let mut rule = Rule {
            name: name.into(),
            generation: self.next_number(),
            module: self::module(module),
            config: config.into(),
            filters: vec![topic.parse().unwrap()],
            order,
            commands: vec![],
            on_quarantine: OnQuarantine::default(),
            on_refused_state: OnRefusedState::Refuse,
            limits: Limits::default(),
            signature_expires: None,
            stats: Arc::default(),
        };
        change(&mut rule);
        let rule = Arc::new(rule);
        self.deploy.install(&rule).unwrap();
        rule
    }

    fn next_number(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Another generation of a rule.
    pub fn next(&mut self, rule: &Rule, change: impl FnOnce(&mut Rule)) -> Arc<Rule> {
        let mut next = Rule { generation: self.next_number(), ..rule.clone() };
        change(&mut next);
        Arc::new(next)
    }

    /// Begins a shadow of the same module, with another configuration.
    pub fn shadow(&mut self, rule: &Rule, config: &str, state: ShadowStart) -> (Arc<Rule>, Arc<ShadowReport>) {
        let candidate = self.next(rule, |next| next.config = config.into());
        let report = Arc::new(ShadowReport::new(100));
        self.deploy.shadow(&candidate, &report, state).unwrap();
        (candidate, report)
    }

    /// Sends messages as one parcel a lane, and waits until all are settled.
    pub fn send(&self, messages: &[(String, Vec<u8>)]) {
        self.hand_over(messages);
        self.wait("all messages to be settled", |totals| totals.in_flight == 0);
    }

    pub fn hand_over(&self, messages: &[(String, Vec<u8>)]) {
        let mut parcels = self.inlet.parcels(|tokens: Vec<()>| {
            drop(tokens);
            Ack::new(|outcome| assert_eq!(outcome, Outcome::Settled))
        });
        for (topic, payload) in messages {
            let place = self.inlet.topic(topic, topic).unwrap();
            parcels.push(place, self.inlet.now_us(), Marks::default(), payload, ());
        }
        self.runtime.block_on(parcels.send()).unwrap();
    }

    pub fn wait(&self, what: &str, done: impl Fn(MessageTotals) -> bool) {
        wait_until(what, || done(self.inlet.ledger().totals()));
    }

    /// Waits until the sink has failed.
    pub fn wait_down(&self) {
        wait_until("the sink to be down", || self.pipeline.status().sinks[0].down.is_some());
    }

    /// Topic and value of every point kept, in the order they came.
    pub fn stored(&self) -> Vec<(String, f64)> {
        let kept = self.points.kept.lock().unwrap();
        let rows = kept.iter().flat_map(|d| d.points.series.iter().zip(&d.points.value));
        rows.map(|(series, value)| (self.books.series_topic(*series).to_owned(), *value)).collect()
    }

    pub fn alerts(&self) -> Vec<(String, Transition)> {
        let kept = self.points.kept.lock().unwrap();
        kept.iter().flat_map(|d| d.alerts.iter().map(|a| (a.topic.to_string(), a.transition))).collect()
    }
}

pub fn reading(topic: &str, value: f64) -> (String, Vec<u8>) {
    (topic.to_owned(), format!("{{\"v\":{value},\"ts\":1703289600000}}").into_bytes())
}

/// The numbers that `brittle` gave, by topic, in the order they came.
pub fn numbers(house: &House) -> BTreeMap<String, Vec<f64>> {
    let mut numbers = BTreeMap::<String, Vec<f64>>::new();
    for (topic, value) in house.stored() {
        numbers.entry(topic).or_default().push(value);
    }
    numbers
}

/// Waits for what comes by itself.
pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !done() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One for all tests, and each module compiled once: that takes longer than all else.
pub static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().unwrap());
static MODULES: LazyLock<Mutex<BTreeMap<String, Arc<Module>>>> = LazyLock::new(Mutex::default);

/// The module of that name in the rule library, or a guest of the tests if there is none.
pub fn module(name: &str) -> Arc<Module> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    let load = || {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target");
        let bytes =
            ["rules", "guests"].iter().find_map(|at| std::fs::read(target.join(format!("{at}/{name}.wasm"))).ok());
        let bytes = bytes.unwrap_or_else(|| {
            panic!("there is no {name}.wasm in target/rules or target/guests; `make test` builds them, and runs this")
        });
        Arc::new(Module::load(&ENGINE, &bytes).unwrap())
    };
    modules.entry(name.to_owned()).or_insert_with(load).clone()
}
