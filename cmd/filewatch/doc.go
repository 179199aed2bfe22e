// Package filewatch tells when files have changed: their content, or which of
// them there are.
//
// It watches directories and not files, so that it sees what editors, cp,
// and the symbolic links of a Kubernetes ConfigMap do: all of them put another
// file into the place of the old one. It looks again once it has been quiet for a
// while, and every half minute in any case, for file systems that tell nothing.
// It never changes a file.
package filewatch
