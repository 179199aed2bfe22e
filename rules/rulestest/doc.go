// Package rulestest runs rule test files: changes written as YAML, and what the
// rules must make of them.
//
// A change is given to the rules as the stream would carry it: values in
// PostgreSQL's text, and of the old row no more than the replica identity holds.
// Types and identities are those of a catalog, where the file names one: then a value
// is brought into the form that the stream gives it, or refused. Without a catalog
// types are guessed from how values are written. Files are read strictly, and all that is wrong with one is told together.
//
// The package opens no connection and starts nothing. It is part of the program
// and no kit for Go tests, though Go tests may call it.
package rulestest
