package runtime

import (
	"maps"
	"reflect"
	"slices"
)

// clone copies a record so that changing the copy's fields, and what they
// point to one level down, leaves the original alone. Definitions are shared:
// nobody changes those.
func (r *Record) clone() *Record {
	c := *r
	c.Ports = maps.Clone(r.Ports)
	c.Attempts = slices.Clone(r.Attempts)
	c.Format = copyOf(r.Format)
	c.Intent = copyOf(r.Intent)
	c.Process = copyOf(r.Process)
	c.LastExit = copyOf(r.LastExit)
	return &c
}

// standIn is what a copy is good for when the record is lost. What it says of
// processes is old and not believed.
func (r *Record) standIn() *Record {
	c := r.clone()
	c.Process, c.Intent = nil, nil
	return c
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// lasting says whether two records differ in what must survive a power cut, which
// is all but what is under way: no process does.
func lasting(a, b *Record) bool {
	if !maps.Equal(a.Ports, b.Ports) {
		return true
	}
	left, right := *a, *b
	for _, r := range []*Record{&left, &right} {
		r.Ports, r.Process, r.Intent = nil, nil, nil
	}
	return !reflect.DeepEqual(left, right)
}
