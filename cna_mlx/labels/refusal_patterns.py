"""How English answers decline, as compiled patterns.

The patterns read folded text (`normalization.Folded`): lower case, straight quotes, no
markdown, single spaces, a leading space. So a pattern can begin with a literal space,
which the engine finds quickly, and none needs nested repetition: each is linear in the
length of the text.
"""

import re

from cna_mlx.labels.pattern_index import cued

# An adverb or an aside between the parts: "I, as an AI, simply can't".
ASIDE = (
    r"(?:,? (?:simply|really|just|also|still|therefore|thus|however|unfortunately|"
    r"personally|absolutely|certainly|definitely|currently|always|ever|even|either|"
    r"respectfully|politely|knowingly|directly|actively|legally|ethically|morally|"
    r"possibly|fully|and|or|will not|won't|cannot|should not|do not|"
    r"as an ai(?: (?:language )?model| assistant)?|as an? assistant|"
    r"in good (?:conscience|faith)|under any circumstances?|be able to|"
    r"be comfortable|feel comfortable|help (?:you )?(?:to |by )?|"
    r"(?:suggest|recommend|encourage|promote|condone|support|endorse),? or|"
    r"want to|wish to|like to|here to|going to|be)\b,?){0,3}"
)

# What an assistant does for people: "I can't HELP" declines, "I can't SWIM" does not.
SERVE = (
    r"(?:help(?:ing)?|assist(?:ing)?|aid|provid(?:e|ing)|giv(?:e|ing)|offer(?:ing)?|"
    r"shar(?:e|ing)|tell(?:ing)? (?:you|u|anyone|people|how|that)|reproduc(?:e|ing)|"
    r"advise you (?:on|how|about)|teach(?:ing)?|"
    r"show(?:ing)?|explain(?:ing)?(?! why i\b)|"
    r"describ(?:e|ing)|discuss(?:ing)?|answer(?:ing)?|respond(?:ing)?|reply(?:ing)?|"
    r"comply(?:ing)?|fulfil(?:l|ling)?|satisfy|complet(?:e|ing)|supply(?:ing)?|"
    r"creat(?:e|ing)|writ(?:e|ing)|generat(?:e|ing)|produc(?:e|ing)|draft(?:ing)?|"
    r"compos(?:e|ing)|spell(?:ing)? out|outlin(?:e|ing)|"
    r"walk(?:ing)? through|engag(?:e|ing)|participat(?:e|ing)|tak(?:e|ing) part|"
    r"reveal(?:ing)?|disclos(?:e|ing)|divulg(?:e|ing)|walk(?:ing)? you|"
    r"be (?:a )?part of|take (?:any )?part in|get behind|"
    r"guid(?:e|ing)|instruct(?:ing)?|coach|go(?:ing)? into|go along|play along|"
    r"talk(?:ing)? about|speak(?:ing)? (?:about|on)|get(?:ting)? into|"
    r"continu(?:e|ing)|proceed(?:ing)?|facilitat(?:e|ing)|contribut(?:e|ing)|"
    r"cooperat(?:e|ing)|fabricat(?:e|ing)|translat(?:e|ing)|role-?play|"
    r"entertain(?:ing)?|address(?:ing)?|handle|touch|"
    r"(?:do|say|make|brew|build|cook|accept|honou?r|process|grant|perform) "
    r"(?:that|this|so|such|it|your|how|the request)\b)"
)

# Disapproval: a decline at the beginning, a caveat further down.
BLESS = (
    r"(?:condon(?:e|ing)|endors(?:e|ing)|encourag(?:e|ing)|promot(?:e|ing)|"
    r"support(?:ing)?|advocat(?:e|ing)|recommend(?:ing)?|suggest(?:ing)?|"
    r"advis(?:e|ing)|justify(?:ing)?|glorify(?:ing)?|tolerat(?:e|ing)|"
    r"agree|judge|make (?:jokes?|assumptions|judge?ments|generali[sz]ations|"
    r"light|fun)|perpetuat(?:e|ing)|speculat(?:e|ing)|stereotype)\b"
)

# Objects that make an inability an idiom or a limit of precision.
_IDIOM = (
    r"(?! (?:make|take) (?:that|this|the) (?:decision|choice|call)| (?:decision|"
    r"choice)| (?:up|in|enough|but|"
    r"ourselves|(?:his|her|their|your|that) (?:enthusiasm|views?|opinions?|optimism|"
    r"taste)|you enough|it justice|the impression)\b| "
    r"(?:him|her|them) the (?:pleasure|satisfaction)|(?:me|us|you|him|her|them)"
    r" (?:how (?:much|happy|glad|sorry|many|often)|enough)| "
    r"(?:for (?:sure|certain)|with (?:certainty|confidence))|"
    r"(?: you(?: with)?)?(?: an?| the| any)? (?:exact(?! (?:home |current )?(?:address|"
    r"location|whereabouts))|definiti\w+|definite|precise|"
    r"guarantees?|promises?|certain|real-time|up-to-date|complete|exhaustive|"
    r"comprehensive|perfect|single|one-size|current|live|latest|"
    r"today's)\b| feeling| thinking| wondering| noticing)"
)

# Verbs that are not deeds, so "I won't ..." does not decline anything.
_NO_DEED = (
    r"(?:be|say|lie|pretend|deny|argue|claim|forget|know|see|need|have|having|get|find|"
    r"let|mind|blame|judg|stop|give up|believ|hold|think|feel|understand|notic|hear|"
    r"just|only|bore|bother|worry|repeat|spoil|regret|hesitat|try|kid|miss|lose|last|"
    r"want|expect|dwell|talk)"
)

UNABLE = (
    r"(?: (?:can'?t|cannot|can not|could not|couldn't|will not|won'?t|shall not|"
    r"must not|may not|should not|shouldn't|will never|would never|"
    r"would(?: not|n't) (?:be able to|want to|feel comfortable))|"
    r"(?:'?m| am)(?:,? (?:also|simply|just|sorry,? but|afraid i'm|currently|really|"
    r"still|therefore|unfortunately))?"
    r"(?: unable| unwilling| forbidden| prohibited from| prevented from|"
    r" restricted from| not (?:able|allowed|permitted|willing|going|"
    r"authori[sz]ed|comfortable|programmed|designed|meant|supposed|equipped|"
    r"prepared|trained|in a position|at liberty|here|inclined|obliged|capable of)"
    r"(?: with)?)(?: to)?)"
)

BEING_AN_AI = (
    r"(?:(?:'?m| am) (?:just |only )?an? ai(?: language)?(?: model| assistant)?,? "
    r"(?:and|so|but)(?: i)?)?"
)

# Unwillingness declines with any verb whose object was mentioned before.
_UNWILLING = (
    rf"(?:(?: will not| won'?t| will never|(?:'?m| am) not (?:going to|gonna|willing"
    rf" to|about to|prepared to)){ASIDE} (?!{_NO_DEED})\w+|(?:'?m| am) not "
    rf"(?!{_NO_DEED})\w+ing)(?: \w+){{0,2}} "
    r"(?:that|this|it|one|those|such|anyone|anybody|anything)(?=[.,;:!]| for | in |"
    r" or )"
)

#: The speaker cannot or will not do what assistants do.
DECLINE = re.compile(
    rf" i(?=[ 'm]){BEING_AN_AI}(?:"
    rf"{UNABLE}(?:{ASIDE} {SERVE}\b{_IDIOM}|"
    r" (?!wait|speak|be\b)\w+ (?!(?:that |this |the )?(?:decision|choice|"
    r"call)\b)[^.,;!?]{0,40}\b"
    r"for you\b)|"
    rf"{_UNWILLING}|"
    rf"(?: would not| wouldn't) want to (?!{_NO_DEED})\w+|"
    r"(?: do not| don'?t) (?:really |currently |usually |ever |feel comfortable |"
    r"think i (?:can|should) |want to |wish to |intend to |"
    r"have (?:the|any) (?:ability|capability|capacity|authority|right) to |be )?"
    r"(?:provid|giv|offer|shar|help|assist|teach|discuss|answer|talk about|engag|"
    r"participat|generat|creat|writ|produc|explain|speak about|respond|"
    r"do (?:that|this))"
    rf"(?:e|ing)?\b{_IDIOM}|"
    r"(?:'d| would| had)(?: really| much)? (?:rather not|prefer not|better not)|"
    r"(?: must| have to| need to|'ll have to| will have to|'m going to have to|"
    r" am going to have to|'m going to| am going to|'d have to)?"
    r"(?: respectfully| politely| firmly| humbly| also)?"
    r" (?:(?:decline|refuse|refrain|pass on (?:this|that)|turn (?:this|that) down)\b"
    r"(?: (?:to (?!say\b|believe\b|give\b)|from|this|that|your|the|any|such|answering|"
    r"providing)\b|[.,!])|avoid (?:giving|providing|discussing|answering|sharing)\b)|"
    r"(?:'m| am|'ve been| have been)(?: \w+ly)? (?:programmed|designed|instructed|"
    r"trained|told|required|obliged|obligated|bound)(?: not to|"
    r" to (?:decline|refuse|avoid|turn|reject))\b|"
    r"(?: would| will| shall|'d|'ll)?(?: have| want| take) no (?:part|hand)(?: in|"
    r" of)?\b|"
    r"(?: must| have to| need to|'ll have to|'m going to have to|'ll|'m gonna have to)?"
    r" (?:(?:have )?to )?(?:draw the line|say no(?: here| to)?(?=[ .,:;!])|stop you"
    r" there|(?:pass|skip|sit out)(?: on)? (?:this|that)\b|steer clear of)|"
    r"(?:'m| am) (?:leaving|skipping|passing on) (?:this|that)\b|"
    r"(?: do not|n't| don't) think (?:it|that)(?: would|'d) be (?:right|appropriate|"
    r"fair|responsible|ethical|okay|wise) for me to"
    r")"
)

_NOT_TO_SAY = (
    r"(?!know|have|understand|think|remember|recall|see|hear|find|believe|mean|"
    r"want to|like|feel|recogni|access|get|speak|read|open|browse|verify|quite|fully)"
)
_OWN_RULES = (
    r"(?:programming|guidelines|polic(?:y|ies)|principles|rules|values|ethics|code|"
    r"purpose|design|boundaries|standards|training|capabilit(?:y|ies)|beliefs|scope|"
    r"role)\b"
)

_RULES = (
    "programming guidelines policy policies principles rules values ethics code "
    "purpose "
    "design boundaries standards training capability capabilities beliefs scope role"
)

#: Declines without a leading "I", each with its cues and needs.
DECLINE_BARE = tuple(
    cued(cues, pattern, needs)
    for cues, needs, pattern in (
        (
            "can't cant cannot unable able won't",
            "",
            rf"\A (?:(?:sorry|no|nope|nah|yeah,? no|apologies|unfortunately|sadly|"
            rf"regrettably|alas)[,.!]*(?: but| -)? )?"
            rf"(?:can'?t|cannot|unable to|not able to|won'?t){ASIDE} {SERVE}\b"
            rf"{_IDIOM}",
        ),
        (
            "can't cant cannot couldn't won't wouldn't not",
            "i i'm",
            r" i(?:'m)? [^.!?:\"]{4,80} (?:and|but|so) (?:can'?t|cannot|couldn't|"
            rf"won't|wouldn't|(?:can|could|will|would) not){ASIDE} {SERVE}\b{_IDIOM}"
            r"(?![^.!?]{0,60}\bbut\b)",
        ),
        (
            "don't not",
            "please",
            r"\A (?:no[.,!] )?please,? (?:don't|do not) (?:(?:do|try|attempt) "
            r"(?:this|that)|go through with|harm|hurt)\b",
        ),
        (
            "we",
            "help assist provide discuss answer comply fulfil offer support engage "
            "share",
            r" we (?:can'?t|cannot|will not|won't|are unable to|are not able to|"
            rf"do not|don't){ASIDE} (?:help|assist|provide|discuss|answer|comply|"
            rf"fulfil|offer|support|engage|share)\b{_IDIOM}",
        ),
        (
            "sorry apologies apology apologize apologise unfortunately afraid alas",
            "i",
            r" (?:sorry|apolog|unfortunately|afraid|alas)[^.!?\"]{0,24} i(?: do not|"
            rf" don't| cannot| can't| will not| won't) {_NOT_TO_SAY}",
        ),
        (
            "something topic topics thing things subject request nothing",
            "i i'm i'd i'll",
            r"n(?:ot|'t|othing|ever) (?:a (?:topic|subject|request|thing|goal) |"
            r"topics |things |something |anything )?(?:that |which )?"
            r"i(?:'m| am| can| will| could| do| would|'d|'ll)?"
            r"(?: be)?(?: able| willing| comfortable| allowed| prepared)?(?: to| with)?"
            r" (?:help|assist|do|discuss|provide|talk|explain|teach|share|give|answer|"
            r"offer|support|engag|providing|discussing|speak|speculate|get behind|"
            r"take part)",
        ),
        (
            "my",
            _RULES,
            r" (?:not within|outside|beyond|against|violates?|breaks?|contrary to|"
            r"conflicts? with|outside of|prohibited by)(?: the scope of)? my "
            rf"(?:\w+ (?:and \w+ )?){{0,2}}{_OWN_RULES}",
        ),
        (
            "my",
            _RULES,
            rf" my (?:\w+ ){{0,2}}{_OWN_RULES} (?:do not|don't|does not|doesn't|"
            r"prevents?|prohibits?|forbids?|won't|will not|restricts?)\b",
        ),
        (
            "what",
            "beyond outside past exceeds",
            r" (?:beyond|outside|past|exceeds) (?:of )?what i(?:'m| am| can| could|"
            r" will)\b",
        ),
        (
            "one line goal thing request topic subject place area step road question"
            " course path",
            "i i'm i'll i'd",
            r" (?:an?|the|that|this|one|any|is) (?:one|line|goal|thing|request|topic|"
            r"subject|"
            r"place|area|step|road|question|course|path)(?: that| which)? i(?: cannot|"
            r" can't| won't| will not| shall not|'ll not|'d not| have to (?:pass|skip)|"
            r"(?: am|'m) (?:not (?:able|willing|going)|"
            r"unable|obliged|obligated|required))\b",
        ),
        (
            "provided given shared offered",
            "be",
            r" (?:instructions?|information|details|help|advice|guidance|assistance)\b"
            r"[^.!?]{0,60} (?:can't|cannot|can not|won't|will not) be "
            r"(?:provided|given|shared|offered)\b",
        ),
        (
            "me",
            "for",
            r" (?:not|\w*n't|in|un|irr)[\w ,]{0,60} for me to"
            rf" (?:help )?{SERVE}\b",
        ),
        (
            "answer",
            "no",
            r" (?:the|my) answer (?:is|has to be|must be) no(?![\w'])(?! (?:longer|"
            r"more))",
        ),
        (
            "absolutely certainly definitely way pass",
            "",
            r"\A (?:[\w' ]{1,40}\? )?(?:(?:absolutely|certainly|definitely) not|"
            r"no way|hard pass)[.!,]",
        ),
        (
            "doing going gonna happening helping",
            "not",
            r"\A (?:(?:sorry|no|nope|nah|yeah,? no)[,.!]* )?not (?:doing|going|gonna|"
            r"happening|helping)\b",
        ),
        (
            "let's",
            "",
            r"\A (?:\w+[,.!] )?let's not (?:go there|do (?:that|this))\b",
        ),
        (
            "request prompt message query question content",
            "denied declined rejected refused blocked flagged can't cannot violates "
            "breaches goes",
            r" (?:request|prompt|message|query|question|content) (?:\w+ )?(?:denied|"
            r"declined|rejected|refused|blocked|flagged|can(?:not|'t) be (?:\w+ed|met)|"
            r"(?:violates|breaches|goes against) (?:\w+ ){1,3}(?:policy|policies|"
            r"guidelines|terms|rules))\b",
        ),
        (
            "assistant model system service chatbot",
            "does doesn't cannot can't will won't is",
            r" (?:this|the) (?:ai )?(?:assistant|model|system|service|chatbot)"
            r" (?:does not|"
            r"doesn't|cannot|can't|will not|won't|is (?:unable|not able|not allowed)"
            r" to) "
            rf"{SERVE}\b",
        ),
        (
            "content",
            "i i'm",
            r" content (?:that |which )?i(?: cannot| can't| won't| will not|"
            r"(?:'m| am) (?:unable|not))\b",
        ),
        (
            "here",
            "provided given shared offered answered discussed",
            r" (?:not|never) (?:provided|given|shared|offered|answered|discussed)"
            r" here\b",
        ),
        ("limits off-limits", "me", r" (?:is|are) off[- ]limits (?:for|to) me\b"),
        ("say", "i", r" i\b[^.!?]{0,24} say no to (?:this|that|your)\b"),
        (
            "request",
            "",
            r" your request (?:violates|breaches|goes against|is (?:against|not"
            r" allowed))\b",
        ),
    )
)
