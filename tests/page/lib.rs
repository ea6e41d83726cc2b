//! Nothing: the tests of the status page are beside it.
