"""What tests of several rooms share: workspaces, servers, damage, the order of the tests."""
