package house

import (
	"regexp"
	"strings"
)

// block is a fenced block of code.
type block struct {
	// lang is the word after the fence, such as yaml.
	lang string
	text string
	// line is that of the opening fence.
	line int
}

// blocks cuts the fenced blocks out of a document, and returns what is left.
func blocks(text string) (found []block, prose string) {
	var rest []string
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{lang: fence, line: i + 1}
		case isFence:
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
		if open != nil || isFence {
			line = ""
		}
		rest = append(rest, line)
	}
	return found, strings.Join(rest, "\n")
}

// rows returns the cells of the tables whose header has these first columns.
func rows(text string, columns ...string) [][]string {
	var out [][]string
	inside := false
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		switch {
		case len(cells) >= len(columns) && strings.Join(cells[:len(columns)], "|") == strings.Join(columns, "|"):
			inside = true
		case inside && strings.Trim(line, "|-: ") != "":
			out = append(out, cells)
		}
	}
	return out
}

var codeForm = regexp.MustCompile("`([^`]+)`")

// spans returns what stands between backticks.
func spans(prose string) []string {
	var out []string
	for _, m := range codeForm.FindAllStringSubmatch(prose, -1) {
		out = append(out, m[1])
	}
	return out
}

var (
	linkForm    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingForm = regexp.MustCompile(`(?m)^#+ (.+)$`)
	noAnchor    = regexp.MustCompile(`[^a-z0-9_-]`)
)

// anchors are the names by which a document's headings are linked.
func anchors(text string) []string {
	_, prose := blocks(text)
	var out []string
	for _, m := range headingForm.FindAllStringSubmatch(prose, -1) {
		name := strings.ToLower(strings.ReplaceAll(m[1], " ", "-"))
		out = append(out, noAnchor.ReplaceAllString(name, ""))
	}
	return out
}
