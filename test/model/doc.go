// Package model checks the protocol itself: promela has its formal models,
// steps its own code under a seeded scheduler, and the test here replays what
// the models do on that code.
package model
