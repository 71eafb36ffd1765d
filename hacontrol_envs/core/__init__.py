"""What a problem is: states, actions, rewards, solutions, and names under which they are found."""
