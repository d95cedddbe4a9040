/// Rules that a test has switched off, to see that the suite notices their absence. Nothing but tests can set
/// one: the properties that hold it are not public, and it is empty by default.
package struct Weakness: OptionSet, Sendable {
  package let rawValue: UInt64

  package init(rawValue: UInt64) { self.rawValue = rawValue }
}
