// Package simulate is the deterministic layer of the proof that no purge is lost: the real
// core between a simulated PostgreSQL, a simulated JetStream and simulated sinks, on a
// fake clock (testing/synctest), under thousands of seeded schedules.
//
// Real are the reader's session with its decoder and its confirmations, the router and the
// rules, the publisher, the sync loop, the trimmer, the board and the lanes. Simulated are
// a slot that resends what was not confirmed and refuses to go backwards, a stream whose
// unsynced end a power cut takes, acknowledgements that get lost, sinks that fail in every
// class, or refuse one kind of value, operators who pause lanes and purge everything, and readers who see a
// commit late. The daemon is killed between any two of its calls. What servers really do is not tried here, but in package integration.
//
// A seed fixes what happens and when on the fake clock, and how the world answers. It does
// not fix in which order goroutines run that are ready at the same instant; a failing
// seed may take a few repetitions to fail again.
package simulate
