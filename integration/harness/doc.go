// Package harness starts real servers for as long as somebody needs them: the
// demo, which is part of the binary, and the integration tests. It therefore
// imports nothing that only tests may import.
//
// It owns the processes it starts and the directories it makes. It guarantees
// that a server accepts connections when its Start function returns, that it is
// the caller's own server and not another one on the same port, that Close
// leaves neither a process nor a directory of its own behind, and that on
// Linux the servers die with the process that started them, however that one
// ends. Servers listen on loopback only.
//
// The context of a Start function bounds the start; the server then lives until
// it is stopped. Data does not survive a crash of the machine unless the
// settings ask for it: fsync is off.
//
// It never touches servers that it did not start, never uses a package
// manager, and never changes a configuration outside its own directories.
package harness
