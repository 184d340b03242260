// Package reconcile decides, and has no syscall.
//
// The loop (engine.go) is level-triggered: a file event, an exit, a command or
// a timer only pokes it, and every pass looks at the whole again. A pass is
// desired (a spec.Set) × observed (runtime.Observations) → Diff → a Plan as
// data → one action in flight a task. Status is folded from the same two and
// never stored.
package reconcile
