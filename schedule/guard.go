// SPDX-License-Identifier: Apache-2.0

package schedule

import "fmt"

// site is where a plugin is called outside of the cycle.
type site struct {
	plugin, point string
	pod           *Pod
	node          *Node // may be nil
}

// guard calls a plugin and turns its failure or panic into an error that says
// whose it is.
func guard(at site, call func() *Status) (err error) {
	defer func() {
		if v := recover(); v != nil {
			cause, ok := v.(error)
			if !ok {
				cause = fmt.Errorf("%v", v)
			}
			err = at.blame(fmt.Errorf("panic: %w", cause))
		}
	}()
	switch s := call(); {
	case s.code() == Success:
		return nil
	case s.Err != nil:
		return at.blame(s.Err)
	default:
		return at.blame(&statusError{s})
	}
}

func (at *site) blame(cause error) *PluginError {
	e := &PluginError{Plugin: at.plugin, Point: at.point, Pod: at.pod.String(), Err: cause}
	if at.node != nil {
		e.Node = at.node.Name
	}
	return e
}

// statusError is a status other than success as an error.
type statusError struct{ *Status }

func (e *statusError) Error() string { return e.Status.String() }
