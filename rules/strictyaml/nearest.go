package strictyaml

import "strings"

// Nearest returns the valid word that word was most likely meant to be, or ""
// when none is near enough to be worth suggesting. Case and the choice between
// - and _ cost nothing; a swap of two neighbours counts as one edit.
// Of equally near words the first wins.
func Nearest(word string, valid []string) string {
	const longest = 64
	if len(word) > longest {
		return ""
	}
	w := fold(word)
	best, bestDistance := "", 1+max(1, len(w)/3)
	for _, v := range valid {
		if len(v) > longest {
			continue
		}
		if d := distance(w, fold(v)); d < bestDistance {
			best, bestDistance = v, d
		}
	}
	return best
}

// DidYouMean is the tail of a message about an unknown word: a suggestion, or
// the valid words where none is near, or nothing where those are too many.
func DidYouMean(word string, valid []string) string {
	if n := Nearest(word, valid); n != "" {
		return "; did you mean " + quote(n) + "?"
	}
	if len(valid) == 0 || len(valid) > 20 {
		return ""
	}
	return "; valid: " + strings.Join(valid, ", ")
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

// distance is the optimal string alignment distance in bytes.
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
