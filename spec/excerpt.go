package spec

import (
	"strings"
	"unicode"
)

// tabWidth is how wide a tab is at most; where its next stop is depends on what
// the line begins with.
const tabWidth = 8

// ellipsis stands where an excerpt was cut.
const ellipsis = "…"

// cell is one character of a line with the marks that belong to it: what a
// column of a Position counts.
type cell struct {
	text  string
	width int
}

func cells(line string) []cell {
	var out []cell
	for _, r := range line {
		joins := unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) || unicode.Is(unicode.Cf, r)
		switch {
		case joins && len(out) > 0:
			out[len(out)-1].text += string(r)
		case r == '\t':
			out = append(out, cell{"\t", tabWidth})
		default:
			out = append(out, cell{string(r), 1})
		}
	}
	return out
}

func totalWidth(line []cell) int {
	sum := 0
	for _, c := range line {
		sum += c.width
	}
	return sum
}

// excerpt gives the source line and the marks below it, neither wider than
// room: a longer line is cut around the columns at fault. marks is empty when
// the line does not reach the column.
func (d Diagnostic) excerpt(room int) (text, marks string) {
	line := cells(Printable(d.Excerpt))
	at, end := d.Column-1, max(d.EndColumn-1, d.Column)
	from, to := 0, len(line)
	if totalWidth(line) > room {
		from, to = window(line, at, end, room-2)
	}
	var shown, below strings.Builder
	if from > 0 {
		shown.WriteString(ellipsis)
		below.WriteByte(' ')
	}
	for i := from; i < to; i++ {
		shown.WriteString(line[i].text)
		switch {
		case i >= at && i < end:
			below.WriteByte('^')
		case i >= end:
		case line[i].text == "\t":
			below.WriteByte('\t') // stands below its text whatever its width is
		default:
			below.WriteByte(' ')
		}
	}
	if at == to && to == len(line) {
		below.WriteByte('^') // just after the end of the line
	}
	if to < len(line) {
		shown.WriteString(ellipsis)
	}
	if !strings.Contains(below.String(), "^") {
		return shown.String(), ""
	}
	return shown.String(), below.String()
}

// window chooses which cells of a long line are shown: those at fault in the
// middle, as much of them as there is room for.
func window(line []cell, at, end, room int) (from, to int) {
	at = max(0, min(at, len(line)))
	end = max(at, min(end, len(line)))
	fault := min(totalWidth(line[at:end]), room)
	from, before := at, 0
	for from > 0 && before+line[from-1].width <= (room-fault)/2 {
		from--
		before += line[from].width
	}
	to, used := from, 0
	for to < len(line) && used+line[to].width <= room {
		used += line[to].width
		to++
	}
	for to == len(line) && from > 0 && used+line[from-1].width <= room {
		from--
		used += line[from].width
	}
	return from, to
}
