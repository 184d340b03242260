package runtime

import "github.com/qemu-reconciler/qemu-reconciler/spec"

// Predict gives the host ports that a start would give to the labels of task
// without a static one, as Preview shows them. rec may be nil for a task that
// was never started. Nothing is claimed: a port that somebody takes meanwhile
// is another one then.
func (o Options) Predict(task *spec.Task, rec *Record) map[string]int {
	var had map[string]int
	if rec != nil {
		had = rec.Ports
	}
	return predictPorts(o.tuned(o.tuning()).DynamicPorts, task.Name, task.Dynamic(), had)
}
