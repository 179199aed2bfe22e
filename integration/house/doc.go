// Package house tests the repository itself: which package may import which,
// that the documents say what is true, that examples are accepted by the code
// that reads them, and that what CONTRIBUTING.md asks for is kept.
//
// It holds tests only, and reads files; what it starts are the servers that the
// steps of the README need.
package house
