// Package seeded proves that tests would notice the bugs they are there for. A
// bug is seeded at its place in the code behind a failpoint (package failpoint);
// Caught runs the guarding test with the bug armed, and expects it to fail.
//
// It is a test kit: it never links into the binary.
package seeded
