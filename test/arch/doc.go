// Package arch holds the tests of the repository's structure: which package
// may import which, how long files and functions get, what names and words are
// not used, and what stands at the top. Each checker is shown to find a bad
// sample. The rules are those of docs/protocol.md and of the README's map.
package arch
