// Before anything is drawn, so that nothing moves: there are scripts.
document.documentElement.classList.add("scripted");
