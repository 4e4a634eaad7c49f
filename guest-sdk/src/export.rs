//! The one macro that makes a module of a crate.

/// Exports a rule from its crate: `export!(Threshold as alert)`.
///
/// The word after `as` is the trait it implements: `decoder`, `transform`, `alert`, or for a full
/// [`crate::Rule`] the side of the contract it stands on, `decoder rule` or `processor rule`.
/// Natively it expands to the type `Exported`, which tests and benchmarks drive, and nothing else: the
/// same crate is an ordinary library to them.
#[macro_export]
macro_rules! export {
    ($rule:ty as decoder) => {
        $crate::export!(@ decoder, $crate::EachMessage<$rule>);
    };
    ($rule:ty as transform) => {
        $crate::export!(@ processor, $crate::EachPoint<$rule>);
    };
    ($rule:ty as alert) => {
        $crate::export!(@ processor, $crate::EachReading<$rule>);
    };
    ($rule:ty as decoder rule) => {
        $crate::export!(@ decoder, $rule);
    };
    ($rule:ty as processor rule) => {
        $crate::export!(@ processor, $rule);
    };
    (@ $world:ident, $rule:ty) => {
        /// The rule this crate exports, as the contract sees it.
        pub type Exported = $rule;

        const _: () = {
            const fn exported<R: $crate::Rule>() {}
            exported::<Exported>();
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use std::cell::RefCell;

            struct Held;

            thread_local! {
                static LIFE: RefCell<$crate::Life<$rule>> = RefCell::default();
            }

            impl $crate::wasm::Instance for Held {
                type Rule = $rule;

                fn with<T>(work: impl FnOnce(&mut $crate::Life<$rule>) -> T) -> T {
                    LIFE.with_borrow_mut(work)
                }
            }

            type Component = $crate::wasm::Component<Held>;
            $crate::wasm::common::export!(Component with_types_in $crate::wasm::common);
            $crate::wasm::$world::export!(Component with_types_in $crate::wasm::$world);
        };
    };
}
