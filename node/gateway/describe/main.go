// Command describe turns the description that protoc-gen-openapiv2 makes of
// the protos into the one that the gateway serves: OpenAPI 3, in the JSON form
// of rpc/jsonform. `make proto` runs it; it is not part of the program.
//
//	describe FROM TO
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: describe FROM TO")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "describe: %v\n", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read the generated description: %w", err)
	}
	var two openapi2.T
	if err := json.Unmarshal(text, &two); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	three, err := openapi2conv.ToV3(&two)
	if err != nil {
		return fmt.Errorf("%s: convert to version 3: %w", from, err)
	}
	if text, err = json.Marshal(three); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	var doc object
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if err := correct(doc); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if text, err = json.MarshalIndent(doc, "", "  "); err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	if err := os.WriteFile(to, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the description: %w", err)
	}
	return nil
}
