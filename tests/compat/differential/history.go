package differential

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// shownMax is how many steps before a difference are kept whole and reported.
const shownMax = 60

// Run makes the calls one by one on a fresh pair of servers, up to the first
// difference. It returns the steps taken; the last one has the difference, if any.
func Run(setup Setup, calls []Call) ([]Step, error) {
	pair, err := NewPair(setup)
	if err != nil {
		return nil, err
	}
	defer pair.Close()
	if slices.ContainsFunc(calls, func(call Call) bool { return call.Method == methodWatch }) {
		if err := pair.watch(setup.TamperWatch); err != nil {
			return nil, err
		}
	}
	var steps []Step
	for _, call := range calls {
		step := pair.Do(call)
		if !pair.reference.server.Running() {
			return steps, fmt.Errorf("the reference ended at %s:\n%s", step.Call, pair.reference.server.LogTail())
		}
		steps = append(steps, step)
		if old := len(steps) - 1 - shownMax; old >= 0 {
			steps[old].Reference.Response, steps[old].Subject.Response = nil, nil
		}
		if step.Difference != "" {
			return steps, nil
		}
	}
	if len(steps) > 0 {
		steps[len(steps)-1].Difference = pair.finish()
	}
	return steps, nil
}

func differs(steps []Step) bool {
	return len(steps) > 0 && steps[len(steps)-1].Difference != ""
}

// Shrink looks for a short part of a history that ends in a difference still.
// It tries to leave out ever smaller pieces until none can go or the time is up.
func Shrink(setup Setup, calls []Call, budget time.Duration) []Call {
	deadline := time.Now().Add(budget)
	for piece := len(calls) / 2; piece > 0; piece /= 2 {
		for first := 0; first+piece < len(calls); {
			if time.Now().After(deadline) {
				return calls
			}
			shorter := append(append([]Call(nil), calls[:first]...), calls[first+piece:]...)
			steps, err := Run(setup, shorter)
			if err == nil && differs(steps) {
				calls = shorter[:len(steps)]
			} else {
				first += piece
			}
		}
	}
	return calls
}

// Report prints a history that ends in a difference.
func Report(steps []Step) string {
	var text strings.Builder
	for i, step := range steps {
		switch {
		case i == len(steps)-1:
			fmt.Fprintf(&text, "%d. %s\n", i+1, step)
		case len(steps)-i <= shownMax:
			fmt.Fprintf(&text, "%d. %s\n   -> %s\n", i+1, step.Call, step.Reference)
		}
	}
	return text.String()
}
