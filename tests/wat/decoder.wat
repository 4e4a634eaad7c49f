;; A decoder that decodes nothing, by the world `plain-decoder` of wit/rule.wit: every message is filtered. Places and memory as in `guest.wat`.
(module
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 1024) "\00\05\00\00{length}")
  (data (i32.const 1280) "{description}")

  (func $give_back (global.set $free (i32.const 65536)))

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1)
        (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
      unreachable)
    (local.get $at))

  (func (export "tidegate:rule/lifecycle@0.1.0#describe") (result i32) (i32.const 1024))
  (func (export "tidegate:rule/lifecycle@0.1.0#configure") (param i32 i32) (result i32)
    (call $give_back)
    (i32.const 0))
  (func (export "tidegate:rule/decoder@0.1.0#declare-topics") (param i32 i32)
    {declare-topics}
    (call $give_back))
  ;; Its parameters are more than are given one by one: $at is where they stand. The payloads' bytes are the sixth, after the time.
  (func (export "tidegate:rule/decoder@0.1.0#decode") (param $at i32) (result i32)
    (local $i i32)
    {decode}
    (call $give_back)
    (i32.const 0)))
