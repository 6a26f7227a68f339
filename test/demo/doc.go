// Package demo holds the tests of `concordat demo` as a user runs it: a binary,
// its children, signals, and what is left afterwards.
package demo
