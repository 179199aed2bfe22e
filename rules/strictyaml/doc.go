// Package strictyaml decodes the YAML that people write for walpurge, and
// refuses what YAML would let them get wrong without a word.
//
// It owns the dialect: one document, every key known and given once, no
// anchors, aliases, merge keys or type tags, no bare yes/no/on/off, and no
// value of another type than the one wanted. Every error has file, line,
// column, the offending text and, for names, the nearest valid one; all
// errors of a file are reported together, except that a syntax error stands
// alone, because nothing after it can be trusted.
//
// It guarantees that text reaches a string field as it was written (023 stays
// 023), that ${VAR} is replaced in values only and after parsing, so that a
// variable's text can never become structure, and that an expanded text never
// appears in an error.
//
// It never reads a file, an environment variable or a clock, and keeps no
// state.
package strictyaml
