package house

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var writePhrases = flag.Bool("write-phrases", false, "write testdata/phrases.tsv from the phrases that are left")

// plainer maps phrases that are hard to read to what is written instead. A phrase holds one of its
// words; most lines hold none, and are not searched. Names that are stored or public (the stream
// walpurge_<pipeline>_hand, the label by_hand) are not phrases.
var plainer = []struct {
	words  []string
	phrase *regexp.Regexp
	write  string
}{
	{[]string{"by hand"}, regexp.MustCompile(`(?i)\bby hand\b`), "manually, or requested by an operator"},
	{[]string{"stand for", "stands for", "stood for"}, regexp.MustCompile(`(?i)\bst(?:and|ands|ood) for\b`), "replaces, or means"},
	{[]string{"is none"}, regexp.MustCompile(`(?i)\bis none\b`), "a sentence that says what it is"},
	{[]string{"whoever", "somebody", "nobody"}, regexp.MustCompile(`\b(?:[Ww]hoever|[Ss]omebody|[Nn]obody)\b`), "the subject: the client, the operator, no process"},
	{[]string{"mend"}, regexp.MustCompile(`(?i)\bmend(?:s|ed|ing)?\b`), "repair, correct or recover"},
	{[]string{"anew"}, regexp.MustCompile(`(?i)\banew\b`), "again, or re-create"},
	{[]string{"come to", "comes to"}, regexp.MustCompile(`(?i)\bcomes? to\b`), "becomes, produces or amounts to"},
	{[]string{"put off"}, regexp.MustCompile(`(?i)\bput off\b`), "deferred"},
	{[]string{"owe"}, regexp.MustCompile(`(?i)\bow(?:e|es|ed)\b`), "due, or deferred"},
}

// phrasesIn counts the phrases of each folder, and names the first place of each folder.
func phrasesIn(t *testing.T) (counts map[string]int, places map[string][]string) {
	counts, places = map[string]int{}, map[string][]string{}
	for _, name := range files(t, ".go", ".md", ".html", ".js", ".yaml", ".sh", ".txt") {
		if name == "integration/house/phrases_test.go" {
			continue
		}
		text := read(t, name)
		lower := strings.Split(strings.ToLower(text), "\n")
		for i, line := range strings.Split(text, "\n") {
			for _, p := range plainer {
				if !slices.ContainsFunc(p.words, func(w string) bool { return strings.Contains(lower[i], w) }) {
					continue
				}
				for _, found := range p.phrase.FindAllString(line, -1) {
					folder := path.Dir(name)
					counts[folder]++
					places[folder] = append(places[folder], fmt.Sprintf("%s:%d: %q; write %s", name, i+1, found, p.write))
				}
			}
		}
	}
	return counts, places
}

// TestPhrases holds the number of phrases that have a plainer word. It may only fall: the table is
// written again with `go test ./integration/house -run TestPhrases -write-phrases`.
func TestPhrases(t *testing.T) {
	table := filepath.Join("testdata", "phrases.tsv")
	counts, places := phrasesIn(t)
	if *writePhrases {
		var out strings.Builder
		for _, folder := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(&out, "%s\t%d\n", folder, counts[folder])
		}
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(table, []byte(out.String()), 0o644))
	}
	f, err := os.Open(table)
	require.NoError(t, err)
	defer f.Close()
	allowed := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		folder, n, ok := strings.Cut(lines.Text(), "\t")
		require.True(t, ok, lines.Text())
		allowed[folder], err = strconv.Atoi(n)
		require.NoError(t, err)
	}
	for _, folder := range slices.Sorted(maps.Keys(counts)) {
		if counts[folder] > allowed[folder] {
			t.Errorf("%s has %d phrases that have a plainer word, %d are allowed:\n%s",
				folder, counts[folder], allowed[folder], strings.Join(places[folder], "\n"))
		}
	}
}
