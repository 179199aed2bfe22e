// Command release makes what is handed out: binaries for each platform with a
// bill of materials and checksums, and the manual pages. It is for `make release`
// and `make man`, and is part of no package.
//
// The same commit, version and Go make the same bytes, wherever and whenever they
// are built. It needs the network only where modules are not in the module cache.
package main
