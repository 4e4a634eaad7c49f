//! An empty WASI 0.2 for components made of Python, JavaScript and the like, which cannot be without: clocks and random numbers.
//!
//! There are no files, arguments, environment variables or network, nothing comes in on standard input, and what goes to standard output
//! is lost. Nobody waits in it: a sleeping guest would hold its lane where no limit of ours can stop it, so that to wait is a trap.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::context::Context;

/// The interface that waits, by the version that our wasmtime-wasi defines; guests of any 0.2 are linked with it.
const POLL: &str = "wasi:io/poll@0.2.12";
/// Random bytes in one call: they are made in the host, which no limit of the guest stops.
const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// Handles (streams, pollables) of one instance.
const MAX_HANDLES: usize = 1_000;

/// What an instance has of WASI; made when it first asks.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl Wasi {
    fn empty() -> Self {
        let context = WasiCtx::builder().max_random_size(MAX_RANDOM_BYTES).build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self { context, table }
    }
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| Box::new(Wasi::empty()));
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

/// Adds it to what is linked.
pub(crate) fn add_to_linker(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    let mut poll = linker.instance(POLL)?;
    poll.func_wrap("poll", |_: StoreContextMut<'_, Context>, (_,): (Vec<Resource<DynPollable>>,)| {
        waits::<(Vec<u32>,)>()
    })?;
    poll.func_wrap("[method]pollable.block", |_: StoreContextMut<'_, Context>, (_,): (Resource<DynPollable>,)| {
        waits::<()>()
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn waits<T>() -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg("a rule may not wait: it would hold up all others on its lane"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tidegate_model::Books;
    use wasmtime::Store;
    use wasmtime::component::Component;

    use super::*;
    use crate::engine::Engine;
    use crate::rule::Limits;

    /// Tells the time, draws random numbers, and waits for a thousand seconds.
    const GUEST: &str = r#"(component
        (import "wasi:io/poll@0.2.3" (instance $io
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (alias export $io "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
            (alias outer 1 $pollable (type $p))
            (export "now" (func (result u64)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
        (import "wasi:random/random@0.2.3" (instance $random
            (export "get-random-u64" (func (result u64)))))
        (core func $now (canon lower (func $clock "now")))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $block (canon lower (func $io "[method]pollable.block")))
        (core func $number (canon lower (func $random "get-random-u64")))
        (core module $m
            (import "wasi" "now" (func $now (result i64)))
            (import "wasi" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "wasi" "block" (func $block (param i32)))
            (import "wasi" "number" (func $number (result i64)))
            (func (export "time") (result i64) (call $now))
            (func (export "number") (result i64) (call $number))
            (func (export "wait") (call $block (call $subscribe (i64.const 1000000000000)))))
        (core instance $wasi
            (export "now" (func $now))
            (export "subscribe" (func $subscribe))
            (export "block" (func $block))
            (export "number" (func $number)))
        (core instance $i (instantiate $m (with "wasi" (instance $wasi))))
        (func (export "time") (result u64) (canon lift (core func $i "time")))
        (func (export "number") (result u64) (canon lift (core func $i "number")))
        (func (export "wait") (canon lift (core func $i "wait"))))"#;

    /// Asks for sockets, and counts what there is of files, environment and arguments.
    const SEEKER: &str = r#"(component
        (import "wasi:sockets/network@0.2.3" (instance $network
            (type $code (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
                "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
                "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
                "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
                "permanent-resolver-failure"))
            (export "error-code" (type (eq $code)))
            (type $family (enum "ipv4" "ipv6"))
            (export "ip-address-family" (type (eq $family)))))
        (alias export $network "error-code" (type $code))
        (alias export $network "ip-address-family" (type $family))
        (import "wasi:sockets/tcp@0.2.3" (instance $tcp (export "tcp-socket" (type (sub resource)))))
        (alias export $tcp "tcp-socket" (type $tcp-socket))
        (import "wasi:sockets/tcp-create-socket@0.2.3" (instance $tcp-create
            (alias outer 1 $code (type $code)) (alias outer 1 $family (type $family))
            (alias outer 1 $tcp-socket (type $socket))
            (export "create-tcp-socket" (func
                (param "address-family" $family) (result (result (own $socket) (error $code)))))))
        (import "wasi:sockets/udp@0.2.3" (instance $udp (export "udp-socket" (type (sub resource)))))
        (alias export $udp "udp-socket" (type $udp-socket))
        (import "wasi:sockets/udp-create-socket@0.2.3" (instance $udp-create
            (alias outer 1 $code (type $code)) (alias outer 1 $family (type $family))
            (alias outer 1 $udp-socket (type $socket))
            (export "create-udp-socket" (func
                (param "address-family" $family) (result (result (own $socket) (error $code)))))))
        (import "wasi:filesystem/types@0.2.3" (instance $types (export "descriptor" (type (sub resource)))))
        (alias export $types "descriptor" (type $descriptor))
        (import "wasi:filesystem/preopens@0.2.3" (instance $preopens
            (alias outer 1 $descriptor (type $descriptor))
            (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
        (import "wasi:cli/environment@0.2.3" (instance $environment
            (export "get-environment" (func (result (list (tuple string string)))))
            (export "get-arguments" (func (result (list string))))))
        (core module $room
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
        (core instance $room (instantiate $room))
        (alias core export $room "memory" (core memory $memory))
        (alias core export $room "realloc" (core func $realloc))
        (core func $tcp (canon lower (func $tcp-create "create-tcp-socket") (memory $memory)))
        (core func $udp (canon lower (func $udp-create "create-udp-socket") (memory $memory)))
        (core func $directories
            (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))
        (core func $variables
            (canon lower (func $environment "get-environment") (memory $memory) (realloc $realloc)))
        (core func $arguments
            (canon lower (func $environment "get-arguments") (memory $memory) (realloc $realloc)))
        (core module $m
            (import "room" "memory" (memory 1))
            (import "wasi" "tcp" (func $tcp (param i32 i32)))
            (import "wasi" "udp" (func $udp (param i32 i32)))
            (import "wasi" "directories" (func $directories (param i32)))
            (import "wasi" "variables" (func $variables (param i32)))
            (import "wasi" "arguments" (func $arguments (param i32)))
            ;; 100 and the error, if it is one.
            (func $refused (result i64)
                (i64.add (i64.mul (i64.load8_u (i32.const 0)) (i64.const 100)) (i64.load8_u (i32.const 4))))
            (func (export "tcp") (result i64) (call $tcp (i32.const 0) (i32.const 0)) (call $refused))
            (func (export "udp") (result i64) (call $udp (i32.const 1) (i32.const 0)) (call $refused))
            (func (export "directories") (result i64)
                (call $directories (i32.const 0)) (i64.load32_u (i32.const 4)))
            (func (export "variables") (result i64) (call $variables (i32.const 0)) (i64.load32_u (i32.const 4)))
            (func (export "arguments") (result i64) (call $arguments (i32.const 0)) (i64.load32_u (i32.const 4))))
        (core instance $wasi
            (export "tcp" (func $tcp)) (export "udp" (func $udp)) (export "directories" (func $directories))
            (export "variables" (func $variables)) (export "arguments" (func $arguments)))
        (core instance $i (instantiate $m (with "room" (instance $room)) (with "wasi" (instance $wasi))))
        (func (export "tcp") (result u64) (canon lift (core func $i "tcp")))
        (func (export "udp") (result u64) (canon lift (core func $i "udp")))
        (func (export "directories") (result u64) (canon lift (core func $i "directories")))
        (func (export "variables") (result u64) (canon lift (core func $i "variables")))
        (func (export "arguments") (result u64) (canon lift (core func $i "arguments"))))"#;

    fn store_and(engine: &Engine, text: &str) -> (Store<Context>, Component) {
        let component = Component::new(&engine.base().wasmtime, wat::parse_str(text).unwrap()).unwrap();
        let context = Context::new(Arc::new(Books::new(1)), Arc::default(), &Limits::default());
        let mut store = Store::new(&engine.base().wasmtime, context);
        store.set_epoch_deadline(1_000_000);
        (store, component)
    }

    /// Guarantees: a guest that imports sockets, files and environment is given none: no socket is made for it, not even one that leads nowhere, however
    /// often it asks; there are no directories, variables or arguments.
    #[test]
    fn nothing_else() {
        let engine = Engine::new().unwrap();
        let (mut store, component) = store_and(&engine, SEEKER);
        let guest = engine.base().linker(crate::terms::Wasi::Empty).instantiate(&mut store, &component).unwrap();
        let mut ask = |name: &str| {
            let function = guest.get_typed_func::<(), (u64,)>(&mut store, name).unwrap();
            function.call(&mut store, ()).unwrap().0
        };
        for _ in 0..2 * MAX_HANDLES {
            assert_eq!((ask("tcp"), ask("udp")), (101, 101), "access is denied");
        }
        assert_eq!([ask("directories"), ask("variables"), ask("arguments")], [0, 0, 0]);
    }

    /// Guarantees: a guest has clocks and random numbers, and cannot wait.
    #[test]
    fn clocks_and_random_numbers_and_no_waiting() {
        let engine = Engine::new().unwrap();
        let (mut store, component) = store_and(&engine, GUEST);
        let guest = engine.base().linker(crate::terms::Wasi::Empty).instantiate(&mut store, &component).unwrap();
        let mut ask = |name: &str| {
            let function = guest.get_typed_func::<(), (u64,)>(&mut store, name).unwrap();
            function.call(&mut store, ()).unwrap().0
        };
        let (then, now) = (ask("time"), ask("time"));
        assert!(now >= then);
        assert_ne!(ask("number"), ask("number"));
        let began = Instant::now();
        let wait = guest.get_typed_func::<(), ()>(&mut store, "wait").unwrap();
        let refused = wait.call(&mut store, ()).unwrap_err();
        assert!(format!("{refused:#}").contains("may not wait"), "{refused:#}");
        assert!(began.elapsed() < Duration::from_secs(60));
        let refused = engine.base().linker(crate::terms::Wasi::Refused).instantiate(&mut store, &component);
        assert!(refused.is_err(), "without leave there is no WASI to link with");
    }
}
