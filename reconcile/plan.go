package reconcile

// Action is what a pass would do to a task.
type Action string

// The actions of a plan.
const (
	ActionNone    Action = "none"
	ActionStart   Action = "start"
	ActionStop    Action = "stop"
	ActionRestart Action = "restart"
	ActionLive    Action = "live"
	ActionReboot  Action = "reboot"
	ActionHeld    Action = "held"
)

// FieldChange is one field of a task whose applied value is not the wanted
// one. Values of env are never shown.
type FieldChange struct {
	Field string `json:"field"`
	From  any    `json:"from"`
	To    any    `json:"to"`
	Price string `json:"price"`
	// Reason says why the change has that price.
	Reason string `json:"reason,omitempty"`
}

// Change is what a pass would do to one task, and why.
type Change struct {
	Task   string        `json:"task"`
	Action Action        `json:"action"`
	Price  string        `json:"price"`
	Reason string        `json:"reason"`
	Fields []FieldChange `json:"fields"`
}

// FileError is an error of a task file or of the directory, as plan shows it.
type FileError struct {
	Path   string `json:"path"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// EndColumn is that of spec.Diagnostic.
	EndColumn int    `json:"end_column,omitempty"`
	Summary   string `json:"summary"`
	Detail    string `json:"detail"`
	Excerpt   string `json:"excerpt,omitempty"`
}

// PlanReport is `plan --json`.
type PlanReport struct {
	Format  int         `json:"format"`
	Changes []Change    `json:"changes"`
	Errors  []FileError `json:"errors"`
}
