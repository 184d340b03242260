// Package spec knows what an operator wrote and no process.
//
// It turns the bytes of a directory of task files into the desired set: tasks
// as plain values with their defaults filled in, and a diagnostic with file,
// line and column for every mistake. It also says which fields of a task
// differ between two definitions and what each difference costs.
//
// The way through it is one line: read (bytes and stamps of the files that
// changed) → parse (HCL to a checked Task, schema.go and decode.go) → validate
// (rules across tasks and against the host) → Set.
package spec
