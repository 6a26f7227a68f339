// Package place is the ground on which processes run that are to meet faults:
// networks that can be cut, disks that fill up and lose power, system calls
// that fail. Linux only, and for root.
//
// Nothing of it outlives the test: Enter runs the program again in a network
// and a mount namespace of its own, and every bridge, rule, mount and loop
// device is made within those and ends with them.
package place
