package kvop

// Kind is what an operation does.
type Kind uint8

// The operations.
const (
	// Get reads a key; its value is in the branch's result.
	Get Kind = iota + 1
	// Put sets a key to Value.
	Put
	// Delete removes a key; one that does not exist is fine.
	Delete
	// Append adds Values to the end of a list, which it makes if the key does not exist.
	Append
	// Add adds Delta to an integer, which is 0 if the key does not exist.
	Add
	// Check is a condition on a key: Equals or Exists.
	Check
)

var kindNames = [...]string{Get: "get", Put: "put", Delete: "delete", Append: "append", Add: "add", Check: "check"}

// String is the operation's name in a payload.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

// Writes reports whether the operation changes its key.
func (k Kind) Writes() bool { return k == Put || k == Delete || k == Append || k == Add }

// Op is one operation. Fields that its kind does not have are zero.
type Op struct {
	Kind Kind
	Key  string
	// Value is what a Put sets.
	Value Value
	// Values are what an Append adds: at least one, none of them a list.
	Values []Value
	// Delta is what an Add adds. The sum must lie within Min and Max, if they are set.
	Delta    int64
	Min, Max *int64
	// A Check has exactly one of Equals and Exists.
	Equals *Value
	Exists *bool
}

// Limits of a payload and its result. The payload as a whole is limited by fsm.MaxPayloadBytes.
const (
	MaxOps        = 256      // operations a payload
	MaxKeyBytes   = 1024     // a key, in UTF-8; bbolt would take 32 KiB
	MaxValueBytes = 16 << 10 // a value in a payload, by Value.Size
)
