package spec

// maxSuggested is the longest word, in bytes, that others are likened to.
const maxSuggested = 80

// suggest gives the word among those allowed that was probably meant, or ""
// when none is near. Ties go to the earlier one.
func suggest(word string, among []string) string {
	if len(word) > maxSuggested {
		return ""
	}
	// A third of the letters may be wrong: fewer would miss "imagepath",
	// more would find a likeness between any two short words.
	limit := max(1, len(word)/3)
	best := ""
	for _, candidate := range among {
		if candidate == word {
			continue
		}
		if d := editDistance(word, candidate, limit); d <= limit {
			best, limit = candidate, d-1
		}
	}
	return best
}

// editDistance counts the insertions, deletions, substitutions and swaps of
// neighbours between a and b. Words that differ in length by more than limit
// are not compared at all.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
