;; A rule that does nothing wrong, by the world `processor-rule` of wit/rule.wit: every batch passes unchanged.
;;
;; Tests put instructions in the places marked with braces, each at the beginning of a function: what is not set in the
;; test's own words stays empty, and the function returns what an honest one would. Memory: 0 zeros, for all results
;; that are nothing but empty lists, none and ok; 1024 the description; 65536 onwards what the host hands over,
;; given back at the end of each call.
(module
  (import "tidegate:rule/host@0.1.0" "log" (func $log (param $level i32) (param $at i32) (param $len i32)))
  (import "tidegate:rule/host@0.1.0" "count" (func $count (param $at i32) (param $len i32) (param $by i64)))
  (import "tidegate:rule/host@0.1.0" "gauge" (func $gauge (param $at i32) (param $len i32) (param $value f64)))
  (import "tidegate:rule/host@0.1.0" "resolve" (func $resolve (param $at i32) (param $len i32) (param $ids i32)))
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 1024) "\00\05\00\00{length}")
  (data (i32.const 1280) "{description}")

  (func $give_back (global.set $free (i32.const 65536)))

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    {realloc}
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1)
        (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
      unreachable)
    (local.get $at))

  ;; For recursion.
  (func $deep {deep})

  (func $start {start})
  (start $start)

  (func (export "tidegate:rule/lifecycle@0.1.0#describe") (result i32)
    {describe}
    (i32.const 1024))
  (func (export "tidegate:rule/lifecycle@0.1.0#configure") (param $at i32) (param $len i32) (result i32)
    {configure}
    (call $give_back)
    (i32.const 0))
  (func (export "tidegate:rule/naming@0.1.0#declare-series") (param $at i32) (param $len i32)
    {declare-series}
    (call $give_back))
  (func (export "tidegate:rule/naming@0.1.0#retire") (param i32 i32 i32 i32)
    {retire}
    (call $give_back))
  (func (export "tidegate:rule/processor@0.1.0#process")
    (param $now i64)
    (param $series i32) (param $rows i32)
    (param $times i32) (param i32)
    (param $values i32) (param i32)
    (param $qualities i32) (param i32)
    (param $text_rows i32) (param i32)
    (param $text_ends i32) (param i32)
    (param $text_bytes i32) (param i32)
    (result i32)
    (local $i i32)
    {process}
    (call $give_back)
    (i32.const 0))
  (func (export "cabi_post_tidegate:rule/processor@0.1.0#process") (param $at i32) {posted})
  (func (export "tidegate:rule/ticking@0.1.0#tick") (param $now i64) (result i32)
    {tick}
    (i32.const 0))
  (func (export "tidegate:rule/state@0.1.0#save") (param $everything i32) (param $max i32) (result i32)
    {save}
    (i32.const 0))
  (func (export "tidegate:rule/state@0.1.0#restore") (param $at i32) (result i32)
    {restore}
    (call $give_back)
    (i32.const 0)))
