// Package tap writes the Test Anything Protocol. It is a stand-in for github.com/mndrix/tap-go, which
// Debian does not package, with as much of its interface as runtime-tools calls.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// T is the output of one test program.
type T struct {
	// Writer takes the output; os.Stdout where it is nil.
	Writer io.Writer

	count *int
	todo  bool
}

// New is a test program's output that has no results yet.
func New() *T {
	return &T{count: new(int)}
}

// Header begins the output; a positive number of results to come is announced at once.
func (t *T) Header(results int) {
	t.line("TAP version 13")
	if results > 0 {
		t.line("1..%d", results)
	}
}

// AutoPlan ends the output with the number of results that there were.
func (t *T) AutoPlan() {
	t.line("1..%d", *t.count)
}

// Todo is the same output, in which the next result is about something not yet done.
func (t *T) Todo() *T {
	next := *t
	next.todo = true
	return &next
}

// Ok is one result.
func (t *T) Ok(passed bool, description string) {
	word := "ok"
	if !passed {
		word = "not ok"
	}
	mark := ""
	if t.todo {
		mark = " # TODO"
	}
	*t.count++
	t.line("%s %d%s - %s", word, *t.count, mark, oneLine(description))
}

// Pass is a good result.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail is a bad result.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip counts results that were not looked for.
func (t *T) Skip(results int, reason string) {
	for ; results > 0; results-- {
		*t.count++
		t.line("ok %d # SKIP %s", *t.count, oneLine(reason))
	}
}

// Diagnostic is a comment.
func (t *T) Diagnostic(text string) {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		t.line("# %s", line)
	}
}

// Diagnosticf is a formatted comment.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML attaches data to the last result. JSON is YAML.
func (t *T) YAML(data interface{}) error {
	text, err := json.MarshalIndent(data, "  ", "  ")
	if err != nil {
		return err
	}
	t.line("  ---\n  %s\n  ...", text)
	return nil
}

func (t *T) line(format string, values ...interface{}) {
	out := t.Writer
	if out == nil {
		out = os.Stdout
	}
	fmt.Fprintf(out, format+"\n", values...)
}

// A description with a line break in it would look like the next result.
func oneLine(text string) string {
	return strings.Join(strings.Fields(text), " ")
}
