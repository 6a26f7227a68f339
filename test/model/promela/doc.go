// Package promela holds models of the protocol for the model checker spin, and
// what runs them. README.md says what each model shows. Its tests check every
// model and show that each rule is needed: switched off, it yields a
// counter-example. Schedules of the models, from random walks and from
// counter-examples, are there for whoever replays them on code: Walk and
// CounterExample make them, Corpus has more than 200 that need no spin.
package promela
